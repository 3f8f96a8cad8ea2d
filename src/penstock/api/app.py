"""Puts the console together."""

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import Response

from penstock.api.dependencies import ApiDependencies
from penstock.api.error_responses import ErrorResponses
from penstock.api.middleware import REQUEST_ID, RequestMiddleware, build_error_response
from penstock.api.models.ollama_routes import OllamaRoutes
from penstock.api.models.routes import ModelRoutes
from penstock.api.openapi import OpenApiDocument
from penstock.api.routing.routes import RoutingRoutes
from penstock.api.status.routes import StatusRoutes
from penstock.domain.errors import InvalidRequest, MethodNotAllowed, PenstockError

_Handler = Callable[[Request, Exception], Awaitable[Response]]


def build_app(context: ApiDependencies) -> FastAPI:
    """The application that answers everything but inference. It starts nothing and leaves nothing behind."""
    app = FastAPI(
        title="Penstock",
        version=context.version,
        description="One address in front of your own model servers.",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    failures = ErrorResponses(context.dialects)
    for part in (
        StatusRoutes(context),
        ModelRoutes(context),
        OllamaRoutes(context),
        RoutingRoutes(context),
        OpenApiDocument(app, context),
    ):
        router = part.build_router()
        app.include_router(router)
        for route in router.routes:
            if isinstance(route, APIRoute) and "{" not in route.path:
                failures.add_route(route.path, *(route.methods or ()))
    answer = _build_error_handler(failures)
    app.add_exception_handler(PenstockError, answer)
    app.add_exception_handler(HTTPException, answer)
    app.add_exception_handler(RequestValidationError, answer)
    app.add_middleware(RequestMiddleware, context=context, failures=failures)
    return app


def _build_error_handler(failures: ErrorResponses) -> _Handler:
    """The handler of all errors that are meant for the caller."""

    async def answer(request: Request, error: Exception) -> Response:
        meant = _translate_error(failures, request, error)
        media_type, body = failures.render(request.scope["path"], meant, request.scope[REQUEST_ID])
        allow = {"allow": ", ".join(meant.allow)} if isinstance(meant, MethodNotAllowed) else {}
        return build_error_response(meant, media_type, body, allow)

    return answer


def _translate_error(failures: ErrorResponses, request: Request, error: Exception) -> PenstockError:
    """The error in our own terms."""
    path, method = request.scope["path"], request.method
    if isinstance(error, PenstockError):
        return error
    if isinstance(error, HTTPException) and error.status_code in (404, 405):
        allowed = failures.allowed_methods(path) or tuple((error.headers or {}).get("Allow", "").split(", "))
        if error.status_code == 405:
            return MethodNotAllowed(f"{method} is not for {path}: use {', '.join(allowed)}", allow=allowed)
        return failures.build_not_found(path, method)
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"][1:])
        return InvalidRequest(f"{field}: {first['msg']}", param=field)
    return InvalidRequest(str(getattr(error, "detail", "the request cannot be understood")))
