"""Ollama's API for models, over all servers: list, loaded models, description of one model, version."""

import re
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from penstock.api.dependencies import ApiDependencies
from penstock.api.json_responses import json_response, read_body
from penstock.api.models.listing import ListedModel, find_or_probe, list_models, list_virtual_models
from penstock.api.ollama import views
from penstock.api.ollama.server_routes import speaks_ollama
from penstock.dialects.go_json import decode_lenient
from penstock.domain.errors import InvalidRequest, ModelNotFound, PenstockError
from penstock.domain.fleet import ServerStatus
from penstock.engines.base import FetchRequest, FetchResponse

WIRE = "ollama.chat"
API_VERSION = "0.33.0"
"""Version of Ollama's API that the gateway implements; reported when there is no Ollama server."""
SHOW_TIMEOUT = 5.0
"""Seconds that a server has to describe a model before the gateway describes it itself."""

_NUMBERS = re.compile(r"\d+")


class _ShowRequest(msgspec.Struct, omit_defaults=True):
    """Body of `/api/show`; `name` is the older name of `model`."""

    model: str | None = None
    name: str | None = None
    verbose: bool | None = None
    system: str | None = None
    options: dict[str, Any] | None = None


_show = msgspec.json.Decoder(_ShowRequest)


class OllamaRoutes:
    """The GET routes of Ollama's API, and `/api/show`."""

    def __init__(self, deps: ApiDependencies) -> None:
        self._deps = deps

    def build_router(self) -> APIRouter:
        """Build the routes; HEAD where Ollama supports it."""
        router = APIRouter(tags=["ollama"])
        for path, handler in (("/api/tags", self.get_tags), ("/api/version", self.get_version)):
            router.add_api_route(path, handler, methods=["GET"])
            router.add_api_route(path, handler, methods=["HEAD"], include_in_schema=False)
        router.add_api_route("/api/ps", self.get_ps, methods=["GET"])
        router.add_api_route("/api/show", self.post_show, methods=["POST"])
        return router

    async def get_tags(self) -> Response:
        """List the models of all servers, each once."""
        deps = self._deps
        await deps.gateway.refresh_models()
        virtual = list_virtual_models(deps, list_models(deps.catalog.fleet, deps.engines))
        return json_response(views.render_tags(deps.catalog.fleet, tuple(listed.model for listed in virtual)))

    async def get_ps(self) -> Response:
        """List the models that are loaded on any server."""
        await self._deps.gateway.refresh_models()
        return json_response(views.render_ps(self._deps.catalog.fleet))

    async def get_version(self) -> Response:
        """Return the version of Ollama that clients can rely on: the lowest of all Ollama servers."""
        versions = [
            s.version for s in self._deps.catalog.fleet.statuses if s.is_up and s.version and self._speaks_ollama(s)
        ]
        return json_response(views.render_version(min(versions, key=_version_key, default=API_VERSION)))

    async def post_show(self, request: Request) -> Response:
        """Describe a model: by its server where that is an Ollama, else by the gateway."""
        body: _ShowRequest = decode_lenient(_show, await read_body(request), "ShowRequest")
        name = (body.model or body.name or "").strip()
        if not name:
            raise InvalidRequest("model is required", param="model")
        listed = await find_or_probe(self._deps, name)
        if listed is None:
            raise ModelNotFound(f"model '{views.add_tag(name)}' not found", param="model")
        for status in listed.statuses:
            if self._speaks_ollama(status) and (description := await self._fetch_description(status, listed, body)):
                return json_response(description.body)
        return json_response(views.render_show(listed.model, bool(body.verbose)))

    async def _fetch_description(
        self, status: ServerStatus, listed: ListedModel, body: _ShowRequest
    ) -> FetchResponse | None:
        """Return the server's own description, None when it has none."""
        own_body = msgspec.structs.replace(body, model=listed.name, name=None)
        request = FetchRequest("/api/show", "POST", msgspec.json.encode(own_body))
        try:
            response = await self._deps.fetch(status.server, status.url, request, SHOW_TIMEOUT)
        except PenstockError:
            return None
        return response if response.status == 200 else None

    def _speaks_ollama(self, status: ServerStatus) -> bool:
        return speaks_ollama(self._deps.engines, status)


def _version_key(version: str) -> list[int]:
    return [int(number) for number in _NUMBERS.findall(version)[:3]]
