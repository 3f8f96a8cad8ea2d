"""Storage: the files that Penstock keeps on disk."""
