"""Building blocks of the host algorithms: micro-kernel, transforms, bands, blocking, vector code, and the tile."""
