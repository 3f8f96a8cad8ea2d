"""Ollama 0.32, modelled on its source: the HTTP layer in front of everything else."""

import ipaddress
import re
from typing import ClassVar
from urllib.parse import urlsplit

from penstock.sim.exchange import Exchange, Headers, Style, http_date
from penstock.sim.kind import Kind
from penstock.sim.kinds.ollama.embedding import Embedding
from penstock.sim.kinds.ollama.generation import GenerationRoutes
from penstock.sim.kinds.ollama.handler import JSON, Core, encode_json
from penstock.sim.kinds.ollama.library import Library
from penstock.sim.kinds.ollama.listing import Listing
from penstock.sim.kinds.ollama.model_management import ModelManagement
from penstock.sim.kinds.ollama.openai_api import OpenAIApi
from penstock.sim.options import SimOptions
from penstock.sim.speed_model import SpeedModel

_KEEP_ALIVE_SECONDS = 300.0
_SCHEMES = ("app://", "file://", "tauri://", "vscode-webview://", "vscode-file://")
_LOOPBACK = re.compile(r"https?://(localhost|127\.0\.0\.1|0\.0\.0\.0)(:\d+)?")
_SUFFIXES = (".localhost", ".local", ".internal")
_PREFLIGHT = (
    ("Access-Control-Allow-Methods", "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"),
    (
        "Access-Control-Allow-Headers",
        "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta,X-Stainless-Arch",
    ),
    ("Access-Control-Max-Age", "43200"),
    ("Vary", "Access-Control-Request-Method"),
    ("Vary", "Access-Control-Request-Headers"),
)


def _build_headers(_status: int) -> Headers:
    return (("Date", http_date()),)


class Ollama(Kind):
    """Many models, loaded on demand and unloaded after five idle minutes; each loaded one has its own slots."""

    name = "ollama"
    default_models: ClassVar[tuple[str, ...]] = ("llama3.1:8b", "gemma3:1b", "nomic-embed-text")
    style = Style(headers=_build_headers, chunk_above=2048, json_type=JSON)
    slots_per_model = True

    def __init__(self, engine: SpeedModel, options: SimOptions) -> None:
        super().__init__(engine, options)
        engine.default_keep_alive = _KEEP_ALIVE_SECONDS
        core = Core(engine, options, Library(engine.models))
        embedding = Embedding(core)
        for part in (
            Listing(core),
            GenerationRoutes(core),
            embedding,
            ModelManagement(core),
            OpenAIApi(core, embedding),
        ):
            self.routes |= part.routes
        self._local = _is_loopback(options.host)

    def encode_json(self, value: object) -> bytes:
        return encode_json(value)

    def build_error_body(self, status: int, message: str) -> bytes:
        return encode_json({"error": message})

    async def answer_unknown_route(self, exchange: Exchange, allowed: tuple[str, ...]) -> None:
        request = exchange.request
        plain = re.sub(r"//+", "/", request.path)
        if plain != request.path:
            await self._reply_redirect(exchange, plain, 307)
        elif request.path.endswith("/") and self.find_routes(request.path.rstrip("/")):
            await self._reply_redirect(exchange, request.path.rstrip("/"), 301 if request.method == "GET" else 307)
        elif allowed:
            await exchange.reply(405, b"405 method not allowed", "text/plain", (("Allow", ", ".join(allowed)),))
        else:
            await exchange.reply(404, b"404 page not found", "text/plain")

    async def _reply_redirect(self, exchange: Exchange, path: str, status: int) -> None:
        query = exchange.request.query_string
        place = f"{path}?{query}" if query else path
        words = {301: "Moved Permanently", 307: "Temporary Redirect"}[status]
        body = f'<a href="{place}">{words}</a>.\n\n'.encode() if exchange.request.method == "GET" else b""
        kind = "text/html; charset=utf-8" if body else ""
        await exchange.reply(status, body, kind, (("Location", place),))

    async def intercept(self, exchange: Exchange) -> bool:
        """Apply the cross-origin rules, then the check of `Host` that a loopback listener makes."""
        request = exchange.request
        origin, host = request.headers.get("origin", ""), request.headers.get("host", "")
        if origin and origin not in {f"http://{host}", f"https://{host}"}:
            if not _allowed_origin(origin):
                await exchange.reply(403)
                return True
            exchange.headers += [("Access-Control-Allow-Origin", origin), ("Vary", "Origin")]
            if request.method == "OPTIONS":
                await exchange.reply(204, headers=_PREFLIGHT)
                return True
        if not self._local:
            return False
        bare = urlsplit(f"//{host}").hostname or ""
        if _is_address(bare) or not bare:
            if bare and not _is_home(bare):
                await exchange.reply(403)
                return True
        elif bare == "localhost" or bare.endswith(_SUFFIXES):
            if request.method == "OPTIONS":
                await exchange.reply(204)
                return True
        else:
            await exchange.reply(403)
            return True
        return False


def _allowed_origin(origin: str) -> bool:
    return origin.startswith(_SCHEMES) or _LOOPBACK.fullmatch(origin) is not None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_home(host: str) -> bool:
    address = ipaddress.ip_address(host)
    return address.is_loopback or address.is_private or address.is_unspecified


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


KIND = Ollama
