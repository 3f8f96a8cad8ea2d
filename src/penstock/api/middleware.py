"""Middleware of the API: request id, cross-origin headers, and a proper response to unexpected errors."""

import html
import logging
import re
import secrets
from collections.abc import Callable, Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penstock.api.error_responses import ErrorResponses
from penstock.domain.errors import PenstockError, create_internal_error
from penstock.http1.cross_origin import EXPOSED_HEADERS
from penstock.http1.request_ids import is_acceptable_request_id

logger = logging.getLogger(__name__)

REQUEST_ID = "penstock.request_id"
ALL_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
_SLASHES = re.compile("//+")
_NOT_PRINTABLE_ASCII = re.compile(rb"[^\x21-\x7e]")


class RequestMiddleware:
    """ASGI middleware around the whole application.

    `is_origin_allowed(origin, host)` returns True when a web page of that origin may read responses.
    """

    def __init__(
        self, app: ASGIApp, is_origin_allowed: Callable[[bytes, bytes], bool], error_responses: ErrorResponses
    ) -> None:
        self._app = app
        self._is_origin_allowed = is_origin_allowed
        self._error_responses = error_responses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; never raises."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        scope["query_string"] = _NOT_PRINTABLE_ASCII.sub(_percent_encode, scope["query_string"])
        sent_id = headers.get("x-request-id", "")
        is_acceptable = is_acceptable_request_id(sent_id.encode("latin-1"))
        request_id = scope[REQUEST_ID] = sent_id if is_acceptable else secrets.token_hex(8)
        added = {"x-request-id": request_id, "cache-control": "no-store", "x-content-type-options": "nosniff"}
        added |= self._build_cors_headers(headers)
        response_started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal response_started
            if message["type"] == "http.response.start":
                response_started = True
                response_headers = MutableHeaders(scope=message)
                for name, value in added.items():
                    response_headers.setdefault(name, value)
            await send(message)

        try:
            if location := self._find_redirect(scope["path"], scope["method"]):
                await _redirect(scope, location)(scope, receive, send_with_headers)
            elif scope["method"] == "OPTIONS":
                await self._answer_options(scope["path"], headers)(scope, receive, send_with_headers)
            else:
                await self._app(scope, receive, send_with_headers)
        except Exception:
            logger.exception("The request for %s failed inside the gateway (%s).", scope["path"], request_id)
            if not response_started:
                await self._render_failure(Request(scope))(scope, receive, send_with_headers)

    def _find_redirect(self, path: str, method: str) -> str:
        """Return the path that is meant where slashes are doubled or one is at the end; "" for any other path."""
        if "//" not in path and not path.endswith("/"):
            return ""
        meant = _SLASHES.sub("/", path).rstrip("/")
        return meant if meant != path and method in self._error_responses.list_methods(meant) else ""

    def _render_failure(self, request: Request) -> Response:
        """Render an unexpected error in the dialect of the path."""
        error = create_internal_error()
        media_type, body = self._error_responses.render(request.scope["path"], error, request.scope[REQUEST_ID])
        return build_error_response(error, media_type, body)

    def _build_cors_headers(self, headers: Headers) -> dict[str, str]:
        origin = headers.get("origin")
        if origin is None or not self._is_origin_allowed(
            origin.encode("latin-1"), headers.get("host", "").encode("latin-1")
        ):
            return {}
        return {
            "access-control-allow-origin": origin,
            "access-control-expose-headers": EXPOSED_HEADERS,
            "vary": "Origin",
        }

    def _answer_options(self, path: str, headers: Headers) -> Response:
        """Answer OPTIONS. A preflight of an allowed origin is granted whatever it requests."""
        allowed = self._error_responses.list_methods(path)
        response_headers = {"allow": ", ".join((*allowed, "OPTIONS"))} if allowed else {}
        if "access-control-request-method" in headers and self._build_cors_headers(headers):
            response_headers |= {
                "access-control-allow-methods": ALL_METHODS,
                "access-control-allow-headers": headers.get("access-control-request-headers", "*"),
                "access-control-max-age": "43200",
            }
        return Response(status_code=204, headers=response_headers)


def _redirect(scope: Scope, location: str) -> Response:
    """Redirect as Ollama does: for good after GET; any other method must be sent again as it was."""
    query = scope["query_string"].decode("ascii")
    target = f"{location}?{query}" if query else location
    method = scope["method"]
    status = 301 if method == "GET" else 307
    body = f'<a href="{html.escape(target)}">Moved Permanently</a>.\n\n' if method == "GET" else None
    media_type = "text/html" if method in ("GET", "HEAD") else None
    return Response(body, status, {"location": target}, media_type=media_type)


def build_error_response(
    error: PenstockError, media_type: bytes, body: bytes, headers: Mapping[str, str] | None = None
) -> Response:
    """Build the response for an error whose body is rendered, with its Retry-After headers."""
    response_headers = dict(headers or {})
    if error.retry_after is not None:
        response_headers["retry-after"] = str(max(1, round(error.retry_after)))
        response_headers["retry-after-ms"] = str(max(0, round(error.retry_after * 1000)))
    return Response(body, error.status, response_headers, media_type=media_type.decode())


def _percent_encode(match: re.Match[bytes]) -> bytes:
    """Percent-encode a byte that no URL may contain: the framework fails on a query that is not UTF-8."""
    return b"%%%02X" % match[0][0]
