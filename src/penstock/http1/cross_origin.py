"""Cross-origin headers of responses."""

EXPOSED_HEADERS = (
    "x-request-id, request-id, retry-after, retry-after-ms, x-penstock-server, x-penstock-model, x-penstock-reason, "
    "x-penstock-fallback, x-penstock-complexity, x-penstock-simulated, x-penstock-ignored, x-penstock-warning"
)
"""Headers that a page may read. A list, because `*` does not count for requests with credentials."""
