"""One file per resource under /api/v1."""
