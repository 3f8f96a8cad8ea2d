"""What Penstock keeps on disk."""
