"""Routes of Ollama's API that concern one server, not models: files for `create`, the account at ollama.com, status."""

import re
from collections.abc import AsyncIterator, Mapping
from typing import Final

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from penstock.api.dependencies import ApiDependencies
from penstock.api.json_responses import read_body
from penstock.domain.errors import ClientGone, InvalidRequest, PenstockError
from penstock.domain.fleet import ServerStatus
from penstock.engines.base import Engine, FetchRequest, FetchResponse
from penstock.gateway.routing.filters import select_main_server
from penstock.gateway.routing.unroutable import build_no_server_error
from penstock.gateway.upstream.transport.upload import Upload

CHAT, CREATE = "ollama.chat", "ollama.create"
ACCOUNT_TIMEOUT = 30.0
"""Seconds: the server asks ollama.com."""
STATUS_TIMEOUT = 5.0
NO_CLOUD: Final = b'{"cloud":{"disabled":true,"source":"none"}}'
"""Status where no server knows the route."""
_DIGEST = re.compile(r"[A-Za-z0-9]{1,20}[:-][A-Za-z0-9]{1,200}")


class OllamaServerRoutes:
    """Routes that the main Ollama server answers: the first of those with the highest priority."""

    def __init__(self, deps: ApiDependencies) -> None:
        self._deps = deps

    def build_router(self) -> APIRouter:
        """Build the routes."""
        router = APIRouter(tags=["ollama"])
        router.add_api_route("/api/status", self.get_status, methods=["GET"])
        router.add_api_route("/api/me", self.post_me, methods=["POST"])
        router.add_api_route("/api/signout", self.post_signout, methods=["POST"])
        blob_path = "/api/blobs/{digest}"
        router.add_api_route(blob_path, self.pass_blob, methods=["HEAD", "POST"], include_in_schema=False)
        return router

    async def get_status(self) -> Response:
        """Return whether the main server uses models of ollama.com."""
        try:
            response = await self._fetch(FetchRequest("/api/status"), STATUS_TIMEOUT)
        except PenstockError:
            response = FetchResponse(404)
        return _build_response(response if response.status == 200 else FetchResponse(200, NO_CLOUD))

    async def post_me(self, request: Request) -> Response:
        """Return the account at ollama.com that the main server uses."""
        return _build_response(
            await self._fetch(FetchRequest("/api/me", "POST", await read_body(request)), ACCOUNT_TIMEOUT)
        )

    async def post_signout(self, request: Request) -> Response:
        """Sign the main server out of ollama.com."""
        return _build_response(
            await self._fetch(FetchRequest("/api/signout", "POST", await read_body(request)), ACCOUNT_TIMEOUT)
        )

    async def pass_blob(self, digest: str, request: Request) -> Response:
        """Pass a file to the main server, where `create` finds it, or the question whether the server has it."""
        if not _DIGEST.fullmatch(digest):
            raise InvalidRequest("invalid digest format", param="digest")
        path = f"/api/blobs/{digest}"
        if request.method == "HEAD":
            upload = Upload("HEAD", path)
        else:
            length = request.headers.get("content-length")
            upload = Upload("POST", path, int(length) if length is not None else None, _read_pieces(request))
        status = self._find_main_server()
        response = await self._deps.upload(status.server, status.url or status.server.url, upload)
        return _build_response(response, has_type=response.status >= 400)

    async def _fetch(self, request: FetchRequest, timeout: float) -> FetchResponse:  # noqa: ASYNC109
        status = self._find_main_server()
        return await self._deps.fetch(status.server, status.url or status.server.url, request, timeout)

    def _find_main_server(self) -> ServerStatus:
        fleet = self._deps.catalog.fleet
        servers = [s for s in fleet.statuses if s.is_up and speaks_ollama(self._deps.engines, s, CREATE)]
        if not servers:
            raise build_no_server_error(fleet, ("ollama",))
        return select_main_server(servers)


def speaks_ollama(engines: Mapping[str, Engine], status: ServerStatus, wire: str = CHAT) -> bool:
    """Return True when a server implements Ollama's own API, or a certain part of it."""
    engine = engines.get(status.server.kind)
    return engine is not None and wire in engine.native_paths


async def _read_pieces(request: Request) -> AsyncIterator[bytes]:
    try:
        async for piece in request.stream():
            yield piece
    except ClientDisconnect:
        raise ClientGone("The client disconnected.") from None


def _build_response(response: FetchResponse, *, has_type: bool = True) -> Response:
    """Build the response to pass on; Ollama states no type for an empty success."""
    media_type = "application/json; charset=utf-8" if has_type else None
    return Response(response.body, response.status, media_type=media_type)
