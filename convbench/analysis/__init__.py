"""Statistics and scaling laws: pure functions of records."""
