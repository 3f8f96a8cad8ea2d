"""Timestamps in the format of the service API."""

from datetime import UTC, datetime


def format_timestamp(seconds: float) -> str:
    """Format seconds since the epoch as ISO 8601 in UTC, to the second and without a zone: `2025-08-31T10:00:00`."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
