"""Error responses of Victoria."""

import pytest

from penstock.domain.errors import UpstreamStatus
from penstock.engines.victoria.engine import ENGINE


@pytest.mark.parametrize(
    ("status", "body", "words", "retryable"),
    [
        (500, b'{"detail":"Ollama is away"}', "status 500: Ollama is away", True),
        (503, b"busy", "status 503: busy", True),
        (429, b'{"error":{"message":"slow down"}}', "slow down", True),
        (422, b'{"detail":[{"loc":["body","goal"],"msg":"field required"}]}', "field required", False),
        (400, b"", "gave no reason", False),
    ],
)
def test_an_error_keeps_its_status_and_message(status: int, body: bytes, words: str, retryable: bool) -> None:
    error = ENGINE.parse_error_response(status, body, 3.0)
    assert isinstance(error, UpstreamStatus)
    assert words in error.message
    assert (error.status, error.retryable, error.retry_after) == (status, retryable, 3.0)
