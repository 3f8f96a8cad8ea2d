"""What surrounds every request to the console: its id, cross-origin headers, and a clean answer whatever happens."""

import logging
import re
import secrets
from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penstock.api.dependencies import ApiDependencies
from penstock.api.error_responses import ErrorResponses
from penstock.domain.errors import PenstockError

logger = logging.getLogger(__name__)

REQUEST_ID = "penstock.request_id"
EXPOSED = "x-request-id, retry-after, retry-after-ms, x-penstock-server, x-penstock-model, x-penstock-fallback"
ANY_METHOD = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
_BEYOND_ASCII = re.compile(rb"[^\x21-\x7e]")
_VALID_REQUEST_ID = re.compile(r"[A-Za-z0-9._:+/=-]{1,128}")


class RequestMiddleware:
    """Middleware around the whole application."""

    def __init__(self, app: ASGIApp, context: ApiDependencies, failures: ErrorResponses) -> None:
        self._app = app
        self._context = context
        self._error_responses = failures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; nothing is raised."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        scope["query_string"] = _BEYOND_ASCII.sub(_percent_encode, scope["query_string"])
        given = headers.get("x-request-id", "")
        request_id = scope[REQUEST_ID] = given if _VALID_REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        extra = {"x-request-id": request_id, "cache-control": "no-store", "x-content-type-options": "nosniff"}
        extra |= self._cross_origin_headers(headers)
        begun = False

        async def framed(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                drawn = MutableHeaders(scope=message)
                for name, value in extra.items():
                    drawn.setdefault(name, value)
            await send(message)

        try:
            if scope["method"] == "OPTIONS":
                await self._answer_options(scope["path"], headers)(scope, receive, framed)
            else:
                await self._app(scope, receive, framed)
        except Exception:
            logger.exception("A request for %s failed in the gateway itself (%s)", scope["path"], request_id)
            if not begun:
                error = PenstockError("the gateway failed; its log says how, under this request id")
                await self._render_error(Request(scope), error)(scope, receive, framed)

    def _render_error(
        self, request: Request, error: PenstockError, headers: Mapping[str, str] | None = None
    ) -> Response:
        """An error as an answer, in the dialect of its path."""
        media_type, body = self._error_responses.render(request.scope["path"], error, request.scope[REQUEST_ID])
        return build_error_response(error, media_type, body, headers)

    def _cross_origin_headers(self, headers: Headers) -> dict[str, str]:
        origin = headers.get("origin")
        if origin is None or not self._context.origin_allowed(
            origin.encode("latin-1"), headers.get("host", "").encode("latin-1")
        ):
            return {}
        return {"access-control-allow-origin": origin, "access-control-expose-headers": EXPOSED, "vary": "Origin"}

    def _answer_options(self, path: str, headers: Headers) -> Response:
        """A preflight is granted whatever it asks for: which origins may ask at all is decided before."""
        allowed = self._error_responses.allowed_methods(path)
        told = {"allow": ", ".join((*allowed, "OPTIONS"))} if allowed else {}
        if "access-control-request-method" in headers and self._cross_origin_headers(headers):
            told |= {
                "access-control-allow-methods": ANY_METHOD,
                "access-control-allow-headers": headers.get("access-control-request-headers", "*"),
                "access-control-max-age": "43200",
            }
        return Response(status_code=204, headers=told)


def build_error_response(
    error: PenstockError, media_type: bytes, body: bytes, headers: Mapping[str, str] | None = None
) -> Response:
    """The answer that tells of an error, with the headers that belong to it."""
    told = dict(headers or {})
    if error.retry_after is not None:
        told["retry-after"] = str(max(1, round(error.retry_after)))
        told["retry-after-ms"] = str(max(0, round(error.retry_after * 1000)))
    return Response(body, error.status, told, media_type=media_type.decode())


def _percent_encode(match: re.Match[bytes]) -> bytes:
    """A byte that no URL may hold, as one may; the framework reads the query as UTF-8 and fails where it is none."""
    return b"%%%02X" % match[0][0]
