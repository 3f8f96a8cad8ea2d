"""Limits that hold on both sides of the gateway."""

MAX_HEAD_BYTES = 64 * 1024
"""Bytes of a start line and header lines."""

MAX_CACHED_HEADS = 8
"""Heads that one connection may put into its cache. A peer whose head differs every time gains nothing from it."""
