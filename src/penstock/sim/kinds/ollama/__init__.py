"""Ollama 0.33, modelled on its source and on recorded answers: the HTTP layer in front of everything else."""

import ipaddress
import posixpath
import re
import socket
from html import escape
from typing import ClassVar
from urllib.parse import quote, urlsplit

from penstock.sim.exchange import Exchange, Headers, Style, http_date
from penstock.sim.kind import Kind
from penstock.sim.kinds.ollama.creation import Creation
from penstock.sim.kinds.ollama.embedding import Embedding
from penstock.sim.kinds.ollama.generation import GenerationRoutes
from penstock.sim.kinds.ollama.go.text import encode_json
from penstock.sim.kinds.ollama.handler import JSON, Core
from penstock.sim.kinds.ollama.library import Library
from penstock.sim.kinds.ollama.listing import Listing
from penstock.sim.kinds.ollama.management import ModelManagement
from penstock.sim.kinds.ollama.openai_api import OpenAIApi
from penstock.sim.options import SimOptions
from penstock.sim.speed_model import SpeedModel

_KEEP_ALIVE_SECONDS = 300.0
_SCHEMES = ("app://", "file://", "tauri://", "vscode-webview://", "vscode-file://")
_LOOPBACK = re.compile(r"https?://(localhost|127\.0\.0\.1|0\.0\.0\.0)(:\d+)?")
_SUFFIXES = (".localhost", ".local", ".internal")
_ALLOWED_HEADERS = (
    "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta,X-Stainless-Arch,X-Stainless-Async,"
    "X-Stainless-Custom-Poll-Interval,X-Stainless-Helper-Method,X-Stainless-Lang,X-Stainless-Os,"
    "X-Stainless-Package-Version,X-Stainless-Poll-Helper,X-Stainless-Retry-Count,X-Stainless-Runtime,"
    "X-Stainless-Runtime-Version,X-Stainless-Timeout"
)
_PREFLIGHT = (
    ("Access-Control-Allow-Methods", "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"),
    ("Access-Control-Allow-Headers", _ALLOWED_HEADERS),
    ("Access-Control-Max-Age", "43200"),
    ("Vary", "Access-Control-Request-Method"),
    ("Vary", "Access-Control-Request-Headers"),
)
# The order in which the methods of a path are listed.
_METHODS = ("HEAD", "GET", "POST", "DELETE")
_MOVED = {301: "Moved Permanently", 307: "Temporary Redirect"}


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
        embedding, management = Embedding(core), ModelManagement(core)
        for part in (
            Listing(core),
            GenerationRoutes(core),
            embedding,
            management,
            Creation(core, management),
            OpenAIApi(core, embedding),
        ):
            self.routes |= part.routes
        self._local = _is_loopback(options.host)

    def encode_json(self, value: object) -> bytes:
        return encode_json(value)

    def build_error_body(self, status: int, message: str) -> bytes:
        return encode_json({"error": message})

    async def answer_unknown_route(self, exchange: Exchange, allowed: tuple[str, ...]) -> None:
        if allowed:
            await exchange.reply(405, b"405 method not allowed", "text/plain")
        else:
            await exchange.reply(404, b"404 page not found", "text/plain")

    async def _redirect_path(self, exchange: Exchange) -> bool:
        """Send a path with double slashes, dots or a trailing slash to the plain one; return True if it was sent."""
        request = exchange.request
        cleaned = _clean_path(request.path)
        if cleaned != request.path:
            await self._reply_redirect(exchange, cleaned, 307)
            return True
        short = request.path.removesuffix("/")
        if short and short != request.path and request.method in (self.find_routes(short) or ()):
            await self._reply_redirect(exchange, short, 301 if request.method == "GET" else 307)
            return True
        return False

    async def _reply_redirect(self, exchange: Exchange, path: str, status: int) -> None:
        query, method = exchange.request.query_string, exchange.request.method
        place = quote(path, safe="/:@!$&'()*+,;=~")
        place = f"{place}?{query}" if query else place
        body = f'<a href="{escape(place)}">{_MOVED[status]}</a>.\n\n'.encode() if method == "GET" else b""
        content_type = "text/html; charset=utf-8" if method in {"GET", "HEAD"} else ""
        await exchange.reply(status, body, content_type, (("Location", place),))

    async def intercept(self, exchange: Exchange) -> bool:
        """Redirect, apply the cross-origin rules, then the check of `Host` that a loopback listener makes."""
        request = exchange.request
        if "host" not in request.headers and request.version != "1.0":
            text = b"400 Bad Request: missing required Host header"
            await exchange.reply(400, text, "text/plain; charset=utf-8")
            return True
        if await self._redirect_path(exchange):
            return True
        routes = self.find_routes(request.path) or {}
        if routes and request.method not in routes:
            exchange.headers.append(("Allow", ", ".join(method for method in _METHODS if method in routes)))
        return await self._check_origin(exchange) or await self._check_host(exchange)

    async def _check_origin(self, exchange: Exchange) -> bool:
        """Apply the cross-origin rules; return True if they answered the request."""
        request = exchange.request
        origin, host = request.headers.get("origin", ""), request.headers.get("host", "")
        if not origin or origin in {f"http://{host}", f"https://{host}"}:
            return False
        if not _allowed_origin(origin):
            await exchange.reply(403)
            return True
        exchange.headers += [("Access-Control-Allow-Origin", origin), ("Vary", "Origin")]
        if request.method == "OPTIONS":
            await exchange.reply(204, headers=_PREFLIGHT)
            return True
        return False

    async def _check_host(self, exchange: Exchange) -> bool:
        """Refuse foreign hosts on a loopback listener; return True if the request is answered."""
        host = _read_host(exchange.request.headers.get("host", ""))
        if not self._local or _is_home(host):
            return False
        if host and host not in {"localhost", socket.gethostname().lower()} and not host.endswith(_SUFFIXES):
            await exchange.reply(403)
            return True
        if exchange.request.method == "OPTIONS":
            await exchange.reply(204)
            return True
        return False


def _clean_path(path: str) -> str:
    """Remove empty, `.` and `..` elements, as Go's multiplexer does; a trailing slash stays."""
    if path == "*":
        return path
    cleaned = "/" + posixpath.normpath(path).lstrip("/")
    return cleaned + "/" if path.endswith("/") and cleaned != "/" else cleaned


def _read_host(header: str) -> str:
    """Return the name or address of a `Host` header, without its port."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return header.lower()


def _allowed_origin(origin: str) -> bool:
    return origin.startswith(_SCHEMES) or _LOOPBACK.fullmatch(origin) is not None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_home(host: str) -> bool:
    """Return True for an address that may be this machine's or its network's."""
    if not _is_address(host):
        return False
    address = ipaddress.ip_address(host)
    return address.is_loopback or address.is_private or address.is_unspecified


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


KIND = Ollama
