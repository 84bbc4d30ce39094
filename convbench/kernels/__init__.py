"""What forms on the host share: the micro-kernel, transforms, bands, blocking, vector code, and the tile."""
