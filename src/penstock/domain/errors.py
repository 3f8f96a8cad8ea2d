"""Everything that can go wrong for a caller, as one tree.

    PenstockError                  status  code                      again?
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
    │   └── WaitTooLong              429   wait_too_long               yes   longer than the caller is ready to wait
    ├── ClientStalled                408   client_stalled              no    it stopped reading
    ├── ClientGone                   499   client_gone                 no    it hung up
    ├── Unavailable                  503   unavailable                 yes
    │   ├── NoServer                 503   no_server                   yes
    │   ├── LlmDisabled              503   llm_disabled                no
    │   └── ShuttingDown             503   shutting_down               yes
    └── UpstreamError                502   upstream_error              yes
        ├── ConnectFailed            502   upstream_error              yes   nothing was sent
        ├── UpstreamCut              502   upstream_error              yes   the answer ended too early
        ├── UpstreamGarbage          502   upstream_error              yes   not the protocol
        ├── UpstreamStatus           any   upstream_error              by status
        └── UpstreamTimeout          504   upstream_timeout            yes

`retryable` says whether another server, or the same one later, may well succeed. Dialects draw these in the
caller's own shape; nothing else is ever shown to a caller.
"""


class PenstockError(Exception):
    """Base of all. `message` is one sentence that says what to do; `retry_after` is in seconds."""

    status: int = 500
    code: str = "internal_error"
    retryable: bool = False

    def __init__(self, message: str, *, param: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after


class InvalidRequest(PenstockError):
    """The request itself is wrong; `param` names the field."""

    status = 400
    code = "invalid_request"


class Unsupported(InvalidRequest):
    """The chosen engine cannot do what was asked; the message names the engine and the thing."""

    code = "unsupported"


class ContextLengthExceeded(InvalidRequest):
    """The prompt is longer than the model's context; the message has both numbers where they are known."""

    code = "context_length_exceeded"


class Unauthorized(PenstockError):
    """No credentials, or wrong ones."""

    status = 401
    code = "unauthorized"


class Forbidden(PenstockError):
    """Known, but not allowed."""

    status = 403
    code = "forbidden"


class NotFound(PenstockError):
    """No such thing."""

    status = 404
    code = "not_found"


class ModelNotFound(NotFound):
    """No server has the model; the message lists the nearest names."""

    code = "model_not_found"


class MethodNotAllowed(PenstockError):
    """The path exists, but not for this method; `allow` lists those that do."""

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
    """Too many requests; `retry_after` says when to come again."""

    status = 429
    code = "rate_limited"
    retryable = True


class WaitTooLong(RateLimited):
    """No server can begin as soon as the caller wants."""

    code = "wait_too_long"


class ClientStalled(PenstockError):
    """The client took too long to send its request, or has stopped reading its answer."""

    status = 408
    code = "client_stalled"


class ClientGone(PenstockError):
    """The client hung up; nobody is left to tell."""

    status = 499
    code = "client_gone"


class Unavailable(PenstockError):
    """Nothing can answer just now."""

    status = 503
    code = "unavailable"
    retryable = True


class NoServer(Unavailable):
    """No server that is up can do this; the message says of each why not."""

    code = "no_server"


class LlmDisabled(Unavailable):
    """`LLM_MODE=none`."""

    code = "llm_disabled"
    retryable = False


class ShuttingDown(Unavailable):
    """The gateway is draining."""

    code = "shutting_down"


class UpstreamError(PenstockError):
    """The engine failed."""

    status = 502
    code = "upstream_error"
    retryable = True


class ConnectFailed(UpstreamError):
    """No connection to the engine; it has seen nothing of the request."""


class UpstreamCut(UpstreamError):
    """The engine's answer ended before it was whole."""


class UpstreamGarbage(UpstreamError):
    """The engine sent what its protocol does not allow."""


class UpstreamTimeout(UpstreamError):
    """The engine took too long: to accept, to begin, or between two pieces."""

    status = 504
    code = "upstream_timeout"


class UpstreamStatus(UpstreamError):
    """The engine answered with an error of its own: `status` is its status, `kind` its own word for it.

    4xx is the caller's to mend and goes back to the caller; 408, 425, 429 and 5xx may be tried elsewhere.
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
        self.kind = kind
        self.retryable = status >= 500 or status in (408, 425, 429)
        if not self.retryable:
            self.code = "invalid_request"
