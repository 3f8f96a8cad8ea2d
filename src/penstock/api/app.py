"""Puts the console together."""

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import Response

from penstock.api.dependencies import ConsoleContext
from penstock.api.error_responses import Failures
from penstock.api.middleware import REQUEST_ID, Frame, failed
from penstock.api.models.ollama_routes import Ollama
from penstock.api.models.routes import Models
from penstock.api.openapi import Document
from penstock.api.routing.routes import Routing
from penstock.api.status.routes import Status
from penstock.domain.errors import InvalidRequest, MethodNotAllowed, PenstockError

_Handler = Callable[[Request, Exception], Awaitable[Response]]


def build(context: ConsoleContext) -> FastAPI:
    """The application that answers everything but inference. It starts nothing and leaves nothing behind."""
    app = FastAPI(
        title="Penstock",
        version=context.version,
        description="One address in front of your own model servers.",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    failures = Failures(context.dialects)
    for part in (Status(context), Models(context), Ollama(context), Routing(context), Document(app, context)):
        router = part.routes()
        app.include_router(router)
        for route in router.routes:
            if isinstance(route, APIRoute) and "{" not in route.path:
                failures.serves(route.path, *(route.methods or ()))
    answer = _answering(failures)
    app.add_exception_handler(PenstockError, answer)
    app.add_exception_handler(HTTPException, answer)
    app.add_exception_handler(RequestValidationError, answer)
    app.add_middleware(Frame, context=context, failures=failures)
    return app


def _answering(failures: Failures) -> _Handler:
    """The handler of all errors that are meant for the caller."""

    async def answer(request: Request, error: Exception) -> Response:
        meant = _meant(failures, request, error)
        media_type, body = failures.draw(request.scope["path"], meant, request.scope[REQUEST_ID])
        allow = {"allow": ", ".join(meant.allow)} if isinstance(meant, MethodNotAllowed) else {}
        return failed(meant, media_type, body, allow)

    return answer


def _meant(failures: Failures, request: Request, error: Exception) -> PenstockError:
    """The error in our own terms."""
    path, method = request.scope["path"], request.method
    if isinstance(error, PenstockError):
        return error
    if isinstance(error, HTTPException) and error.status_code in (404, 405):
        allowed = failures.allowed(path) or tuple((error.headers or {}).get("Allow", "").split(", "))
        if error.status_code == 405:
            return MethodNotAllowed(f"{method} is not for {path}: use {', '.join(allowed)}", allow=allowed)
        return failures.missing(path, method)
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"][1:])
        return InvalidRequest(f"{field}: {first['msg']}", param=field)
    return InvalidRequest(str(getattr(error, "detail", "the request cannot be understood")))
