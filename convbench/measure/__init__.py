"""How a sweep measures: runs as complete blocks in fresh, pinned processes. Nothing is formatted here."""
