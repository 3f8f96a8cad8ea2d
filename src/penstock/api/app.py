"""The FastAPI application, assembled from its routes."""

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import Response

from penstock.api.dependencies import ApiDependencies
from penstock.api.error_responses import ErrorResponses
from penstock.api.middleware import REQUEST_ID, RequestMiddleware, build_error_response
from penstock.api.models.routes import ModelRoutes
from penstock.api.ollama.routes import OllamaRoutes
from penstock.api.ollama.server_routes import OllamaServerRoutes
from penstock.api.openapi import OpenApiDocument
from penstock.api.routing.routes import RoutingRoutes
from penstock.api.status.routes import StatusRoutes
from penstock.domain.errors import InvalidRequest, MethodNotAllowed, PenstockError

_Handler = Callable[[Request, Exception], Awaitable[Response]]


def build_app(deps: ApiDependencies) -> FastAPI:
    """Build the application for all routes but inference. It starts no task."""
    app = FastAPI(
        title="Penstock",
        version=deps.version,
        description="One address in front of your own model servers.",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    error_responses = ErrorResponses(deps.dialects)
    for part in (
        StatusRoutes(deps),
        ModelRoutes(deps),
        OllamaRoutes(deps),
        OllamaServerRoutes(deps),
        RoutingRoutes(deps),
        OpenApiDocument(app, deps.dialects),
    ):
        router = part.build_router()
        app.include_router(router)
        for route in router.routes:
            if isinstance(route, APIRoute) and "{" not in route.path:
                error_responses.add_route(route.path, *(route.methods or ()))
    handler = _build_error_handler(error_responses)
    app.add_exception_handler(PenstockError, handler)
    app.add_exception_handler(HTTPException, handler)
    app.add_exception_handler(RequestValidationError, handler)
    app.add_middleware(RequestMiddleware, is_origin_allowed=deps.is_origin_allowed, error_responses=error_responses)
    return app


def _build_error_handler(error_responses: ErrorResponses) -> _Handler:
    """Build the handler of all errors that are reported to the caller."""

    async def handle_error(request: Request, raised: Exception) -> Response:
        error = _translate_error(error_responses, request, raised)
        media_type, body = error_responses.render(request.scope["path"], error, request.scope[REQUEST_ID])
        allow = {"allow": ", ".join(error.allow)} if isinstance(error, MethodNotAllowed) else {}
        return build_error_response(error, media_type, body, allow)

    return handle_error


def _translate_error(error_responses: ErrorResponses, request: Request, error: Exception) -> PenstockError:
    """Translate an error of the framework into one of ours."""
    path, method = request.scope["path"], request.method
    if isinstance(error, PenstockError):
        return error
    if isinstance(error, HTTPException) and error.status_code in (404, 405):
        allowed = error_responses.list_methods(path) or tuple((error.headers or {}).get("Allow", "").split(", "))
        if error.status_code == 405:
            return MethodNotAllowed(f"{path} does not support {method}. Use {', '.join(allowed)}.", allow=allowed)
        return error_responses.build_not_found(path, method)
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"][1:])
        return InvalidRequest(f"The parameter {field} is invalid: {first['msg']}.", param=field)
    return InvalidRequest(str(getattr(error, "detail", "The request cannot be parsed.")))
