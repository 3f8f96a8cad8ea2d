"""Ollama's lists, over all servers: what there is, what is loaded, what one model is like."""

import re
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from penstock.api.dependencies import ApiDependencies
from penstock.api.json_responses import json_response, read_body
from penstock.api.model_listing import ListedModel
from penstock.api.models import ollama_views
from penstock.dialects.go_json import decode_lenient
from penstock.domain.errors import InvalidRequest, ModelNotFound, PenstockError
from penstock.domain.fleet import ServerStatus
from penstock.engines.base import FetchRequest, FetchResponse

WIRE = "ollama.chat"
API_VERSION = "0.13.3"
"""The version of Ollama whose API the gateway itself speaks: told when there is no Ollama server to count on."""
SHOW_TIMEOUT = 5.0
"""Seconds that a server has to describe a model before we do it ourselves."""


_NUMBERS = re.compile(r"\d+")


class _ShowRequest(msgspec.Struct, omit_defaults=True):
    """What `post_show` may be asked with; `name` is the older word for `model`."""

    model: str | None = None
    name: str | None = None
    verbose: bool | None = None
    system: str | None = None
    options: dict[str, Any] | None = None


_show = msgspec.json.Decoder(_ShowRequest)


class OllamaRoutes:
    """The GET routes of Ollama's API, and `post_show`."""

    def __init__(self, context: ApiDependencies) -> None:
        self._context = context

    def build_router(self) -> APIRouter:
        """The routes; HEAD where Ollama has it."""
        router = APIRouter(tags=["ollama"])
        for path, handler in (("/api/tags", self.get_tags), ("/api/version", self.get_version)):
            router.add_api_route(path, handler, methods=["GET"])
            router.add_api_route(path, handler, methods=["HEAD"], include_in_schema=False)
        router.add_api_route("/api/ps", self.get_ps, methods=["GET"])
        router.add_api_route("/api/show", self.post_show, methods=["POST"])
        return router

    async def get_tags(self) -> Response:
        """The models of all servers, each once."""
        return json_response(ollama_views.render_tags(self._context.catalog.fleet))

    async def get_ps(self) -> Response:
        """The models that are loaded somewhere."""
        return json_response(ollama_views.render_ps(self._context.catalog.fleet))

    async def get_version(self) -> Response:
        """The version of Ollama that clients may count on: the lowest of its servers' when there are any."""
        versions = [
            s.version for s in self._context.catalog.fleet.statuses if s.is_up and s.version and self._speaks_ollama(s)
        ]
        return json_response(ollama_views.render_version(min(versions, key=_version_key, default=API_VERSION)))

    async def post_show(self, request: Request) -> Response:
        """What a model is like: in its server's own words where that is an Ollama, else in ours."""
        asked: _ShowRequest = decode_lenient(_show, await read_body(request), "ShowRequest")
        name = asked.model or asked.name
        if not name:
            raise InvalidRequest("model is required", param="model")
        offer = await self._context.find(name)
        if offer is None:
            raise ModelNotFound(f"model '{ollama_views.add_tag(name)}' not found", param="model")
        for status in offer.statuses:
            if self._speaks_ollama(status) and (told := await self._fetch_description(status, offer, asked)):
                return json_response(told.body)
        return json_response(ollama_views.render_show(offer.model, bool(asked.verbose)))

    async def _fetch_description(
        self, status: ServerStatus, offer: ListedModel, asked: _ShowRequest
    ) -> FetchResponse | None:
        """The server's own description; None when it cannot give one."""
        body = msgspec.structs.replace(asked, model=offer.name, name=None)
        what = FetchRequest("/api/show", "POST", msgspec.json.encode(body))
        try:
            told = await self._context.fetch(status.server, status.url, what, SHOW_TIMEOUT)
        except PenstockError:
            return None
        return told if told.status == 200 else None

    def _speaks_ollama(self, status: ServerStatus) -> bool:
        """Whether a server speaks Ollama's own API."""
        engine = self._context.engines.get(status.server.kind)
        return engine is not None and WIRE in engine.native_paths


def _version_key(version: str) -> list[int]:
    return [int(number) for number in _NUMBERS.findall(version)[:3]]
