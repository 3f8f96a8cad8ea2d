"""Health, statistics, metrics and server status."""
