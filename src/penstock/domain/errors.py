"""Errors that clients get, in one tree.

    PenstockError                  status  code                      retry?
    ├── InvalidRequest               400   invalid_request             no
    │   ├── Unsupported              400   unsupported                 no
    │   └── ContextLengthExceeded    400   context_length_exceeded     no
    ├── Unauthorized                 401   unauthorized                no
    ├── Forbidden                    403   forbidden                   no
    ├── NotFound                     404   not_found                   no
    │   └── ModelNotFound            404   model_not_found             no
    ├── MethodNotAllowed             405   method_not_allowed          no
    ├── BodyTooLarge                 413   body_too_large              no
    ├── RateLimited                  429   rate_limited                yes
    │   └── WaitTooLong              429   wait_too_long               yes   longer than the client's limit
    ├── ClientStalled                408   client_stalled              no    it stopped sending or reading
    ├── ClientGone                   499   client_gone                 no    it disconnected
    ├── Unavailable                  503   unavailable                 yes
    │   ├── NoServer                 503   no_server                   yes
    │   ├── LlmDisabled              503   llm_disabled                no
    │   └── ShuttingDown             503   shutting_down               yes
    └── UpstreamError                502   upstream_error              yes
        ├── ConnectFailed            502   upstream_error              yes   the request was not sent
        ├── UpstreamCut              502   upstream_error              yes   the response is incomplete
        ├── UpstreamGarbage          502   upstream_error              yes   not HTTP, or not the engine's format
        ├── ListingUnavailable       502   upstream_error              yes   the server has no list of models
        ├── UpstreamStatus           any   upstream_error              by status
        └── UpstreamTimeout          504   upstream_timeout            yes

`retryable`: another server, or the same one later, may succeed. Dialects render errors in the client's format; clients
get no other errors.
"""


class PenstockError(Exception):
    """Base of all errors. `message` says what happened and what to do; `retry_after` is in seconds.

    `engine_message` is the engine's own text, for clients that speak its API and may look for it.
    """

    status: int = 500
    code: str = "internal_error"
    retryable: bool = False
    engine_message: str = ""

    def __init__(self, message: str, *, param: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after

    def drop_traces(self) -> None:
        """Drop the traceback, the context and the cause. Their frames hold the request's body, and often the error.

        For whoever keeps an error: the cycle would live until the garbage collector looks, which it does rarely.
        """
        self.__traceback__ = self.__context__ = self.__cause__ = None


def create_internal_error() -> PenstockError:
    """Return the error for a fault of the gateway itself, whose traceback is in its log."""
    return PenstockError("The gateway failed with an internal error. Its log has the cause, under this request's id.")


class InvalidRequest(PenstockError):
    """The request is invalid; `param` is the path of the field."""

    status = 400
    code = "invalid_request"


class Unsupported(InvalidRequest):
    """The selected engine does not support the request; the message names the engine and the feature."""

    code = "unsupported"


class ContextLengthExceeded(InvalidRequest):
    """The prompt is longer than the model's context; the message has both numbers if they are known."""

    code = "context_length_exceeded"


class Unauthorized(PenstockError):
    """Credentials are missing or wrong."""

    status = 401
    code = "unauthorized"


class Forbidden(PenstockError):
    """The client is authenticated but not allowed to do this."""

    status = 403
    code = "forbidden"


class NotFound(PenstockError):
    """The path or object does not exist."""

    status = 404
    code = "not_found"


class ModelNotFound(NotFound):
    """No server has the model; the message lists similar names."""

    code = "model_not_found"


class MethodNotAllowed(PenstockError):
    """The path does not support the method; `allow` lists the supported ones."""

    status = 405
    code = "method_not_allowed"

    def __init__(self, message: str, *, allow: tuple[str, ...]) -> None:
        super().__init__(message)
        self.allow = allow


class BodyTooLarge(PenstockError):
    """The request body is over `server.max_body`."""

    status = 413
    code = "body_too_large"


class RateLimited(PenstockError):
    """Too many requests; retry after `retry_after` seconds."""

    status = 429
    code = "rate_limited"
    retryable = True


class WaitTooLong(RateLimited):
    """No server can start within the client's maximum wait."""

    code = "wait_too_long"


class ClientStalled(PenstockError):
    """The client took too long to send its request or to read the response."""

    status = 408
    code = "client_stalled"


class ClientGone(PenstockError):
    """The client disconnected."""

    status = 499
    code = "client_gone"


class Unavailable(PenstockError):
    """The request cannot be served at the moment."""

    status = 503
    code = "unavailable"
    retryable = True


class NoServer(Unavailable):
    """No server that is up can serve the request; the message has the reason for each."""

    code = "no_server"


class LlmDisabled(Unavailable):
    """`LLM_MODE=none`."""

    code = "llm_disabled"
    retryable = False


class ShuttingDown(Unavailable):
    """The gateway is shutting down and takes no new requests."""

    code = "shutting_down"


class UpstreamError(PenstockError):
    """The model server failed."""

    status = 502
    code = "upstream_error"
    retryable = True


class ConnectFailed(UpstreamError):
    """The connection to the model server failed; no part of the request was sent."""


class UpstreamCut(UpstreamError):
    """The server's response ended before it was complete."""


class UpstreamGarbage(UpstreamError):
    """The server's response violates its protocol."""


class ListingUnavailable(UpstreamError):
    """The server answers, but has no list of models."""


class UpstreamTimeout(UpstreamError):
    """The server took too long to accept the connection, to start the response, or between two pieces of it."""

    status = 504
    code = "upstream_timeout"


class UpstreamStatus(UpstreamError):
    """The server responded with an error: `status` is its HTTP status, `kind` its own name for the error.

    `engine_status` is the status that the server gave, where `status` is another one.

    The client must fix a 4xx, which is returned to it; 408, 425, 429 and 5xx may be retried on another server.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        kind: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, param=param, retry_after=retry_after)
        self.status = status
        self.engine_status = status
        self.kind = kind
        self.retryable = status >= 500 or status in (408, 425, 429)
        if not self.retryable:
            self.code = "invalid_request"


class RequestRefused(UpstreamStatus):
    """The server says that the request is invalid, whatever its status: no server would accept it."""

    def __init__(self, message: str, *, status: int, kind: str | None = None, param: str | None = None) -> None:
        super().__init__(message, status=400 if status >= 500 else status, kind=kind, param=param)
        self.engine_status = status
