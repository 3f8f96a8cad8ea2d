"""Health, statistics and metrics."""
