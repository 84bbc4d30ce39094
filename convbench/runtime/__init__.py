"""The Python runtime: imports that run to completion, worker processes, and the digest of the sources."""
