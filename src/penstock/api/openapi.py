"""OpenAPI description of the whole API, inference routes included, and the page that shows it."""

import re
from typing import Any

import msgspec
from fastapi import APIRouter, FastAPI, Response

from penstock.api.json_responses import json_response
from penstock.api.pages import Page
from penstock.dialects.base import Dialect, Endpoint

_RESPONSES = {
    "200": {"description": "The response; a stream where the request asks for one"},
    "default": {"description": "An error in the dialect of the path"},
}


class OpenApiDocument:
    """`/openapi.json` and `/docs`. The description is built at the first request."""

    def __init__(self, app: FastAPI, dialects: tuple[Dialect, ...]) -> None:
        self._app = app
        self._dialects = dialects
        self._page = Page("docs.html")
        self._encoded = b""

    def build_router(self) -> APIRouter:
        """Build the routes."""
        router = APIRouter(include_in_schema=False)
        router.add_api_route("/openapi.json", self.get_description, methods=["GET"])
        router.add_api_route("/docs", self.get_page, methods=["GET"])
        return router

    async def get_page(self) -> Response:
        """Return the page that shows the description."""
        return self._page.build_response()

    async def get_description(self) -> Response:
        """Return the OpenAPI description."""
        if not self._encoded:
            self._encoded = msgspec.json.encode(self._build_description())
        return json_response(self._encoded)

    def _build_description(self) -> dict[str, Any]:
        description = self._app.openapi()
        paths: dict[str, Any] = description.setdefault("paths", {})
        for dialect in self._dialects:
            for endpoint in dialect.endpoints:
                for path in endpoint.paths:
                    paths.setdefault(path, {})[endpoint.method.lower()] = _build_operation(dialect, endpoint, path)
        return description


def _build_operation(dialect: Dialect, endpoint: Endpoint, path: str) -> dict[str, Any]:
    docstring = (getattr(type(endpoint), "__doc__", None) or "").strip()
    is_generated = docstring.startswith(f"{type(endpoint).__name__}(")  # by dataclass
    content = {"application/json": {"schema": {"type": "object"}}}
    return {
        "tags": [dialect.name],
        "summary": endpoint.wire,
        "description": "" if is_generated else docstring,
        "operationId": re.sub(r"\W+", "_", f"{endpoint.wire}_{path}").strip("_"),
        "requestBody": {"required": True, "content": content},
        "responses": _RESPONSES,
    }
