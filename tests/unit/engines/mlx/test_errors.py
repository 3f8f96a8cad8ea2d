"""Error responses of the MLX API server."""

import pytest

from penstock.domain.errors import ModelNotFound
from penstock.engines.mlx.engine import ENGINE


@pytest.mark.parametrize("status", [429, 503, 504])
def test_a_busy_server_is_retryable(status: int):
    error = ENGINE.parse_error_response(status, b'{"detail":"queue full"}', 4.0)
    assert (error.status, error.retryable, error.retry_after) == (status, True, 4.0)
    assert "queue full" in error.message


def test_other_errors_keep_their_message():
    assert isinstance(ENGINE.parse_error_response(404, b'{"detail":"Model x is not loaded"}', None), ModelNotFound)
    missing = ENGINE.parse_error_response(404, b'{"detail":"Not Found"}', None)
    assert not isinstance(missing, ModelNotFound)
    invalid = ENGINE.parse_error_response(422, b'{"detail":[{"loc":["body","prompt"],"msg":"field required"}]}', None)
    assert (invalid.message, invalid.status, invalid.retryable) == ("field required", 422, False)
    assert ENGINE.parse_error_response(500, b"Internal Server Error", None).message == "Internal Server Error"
    assert ENGINE.parse_error_response(401, b"", None).status == 502
