"""Why a request goes where it goes: what would be decided now, and what has been decided of late."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from penstock.api.dependencies import ApiDependencies
from penstock.api.json_responses import json_response, read_body
from penstock.api.routing import views as drawing
from penstock.domain.errors import InvalidRequest
from penstock.domain.request import Call
from penstock.gateway.pipeline import MOST_DECISIONS
from penstock.gateway.routing import costs
from penstock.gateway.routing.complexity.request_profile import profile_request

MAX_BODY = 32 << 20
MAX_SESSION_LENGTH, MAX_WAIT_SECONDS = 128, 1e9
DEFAULT_LIMIT = 100
"""Decisions that are shown where no number is asked for."""

_TEXT = {"type": "string"}
_REQUEST_BODY: dict[str, Any] = {
    "description": "What `/api/v1/chat` takes (`text` may stand for `message`), or what `/v1/chat/completions` takes.",
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {
                    "message": _TEXT,
                    "text": _TEXT,
                    "model": _TEXT,
                    "history": {"type": "array", "items": {"type": "object"}},
                    "context": {},
                    "messages": {"type": "array", "items": {"type": "object"}},
                    "tools": {"type": "array", "items": {"type": "object"}},
                },
            },
            "example": {"message": "Объясни паттерн Singleton"},
        }
    },
}


class RoutingRoutes:
    """`/api/route` and `/api/decisions`. No server is asked, and nothing here changes what routing knows."""

    def __init__(self, context: ApiDependencies) -> None:
        self._context = context
        self._endpoints = {endpoint.wire: endpoint for one in context.dialects for endpoint in one.endpoints}
        self._waits = frozenset(signal.name for signal in costs.load_costs() if signal.is_wait)

    def build_router(self) -> APIRouter:
        """The routes."""
        router = APIRouter(tags=["routing"])
        router.add_api_route(
            "/api/route", self.post_route, methods=["POST"], openapi_extra={"requestBody": _REQUEST_BODY}
        )
        router.add_api_route("/api/decisions", self.get_decisions, methods=["GET"])
        return router

    async def post_route(self, request: Request) -> Response:
        """Where a request would go now, and why: level, kind of task, every candidate with its score, seconds and
        reasons, best first. Generates nothing."""
        wire, body = drawing.parse_question(await read_body(request, MAX_BODY))
        endpoint = self._endpoints[wire]
        call = endpoint.parse_request(body, b"application/json")
        _apply_headers(call, request)
        context, routing = self._context, self._context.routing
        fleet = context.catalog.fleet
        ask = profile_request(endpoint.decode_content(call), routing.classifier()) if call.is_automatic else None
        if ask is not None and routing.router.should_select_model(fleet, call):
            call.profile = ask
        decision = routing.router.decide(fleet, call, context.catalog.loads, context.clock(), explain=True)
        return json_response(drawing.render_explanation(decision, call, ask, self._waits))

    async def get_decisions(self, limit: Annotated[int, Query(ge=1, le=MOST_DECISIONS)] = DEFAULT_LIMIT) -> Response:
        """The last decisions, newest first, and what became of each; never a word of what was said."""
        context = self._context
        made = context.routing.decisions()
        offset = context.wall() - context.clock()
        shown = [
            drawing.render_decision(
                one.at + offset,
                one.request_id.decode("latin-1"),
                one.wire,
                one.requested,
                one.decision,
                one.deployment,
                one.attempts,
                one.code,
            )
            for one in reversed(made[-limit:])
        ]
        return json_response(drawing.render_history(shown, len(made), context.wall()))


def _apply_headers(call: Call, request: Request) -> None:
    """The headers that the request itself would be sent with."""
    wait, session = request.headers.get("x-penstock-max-wait"), request.headers.get("x-session-id", "")
    call.session = session.encode("latin-1")[:MAX_SESSION_LENGTH]
    if wait is None:
        return
    try:
        call.max_wait = float(wait)
    except ValueError:
        call.max_wait = -1.0
    if not 0 <= call.max_wait < MAX_WAIT_SECONDS:
        raise InvalidRequest("x-penstock-max-wait is a number of seconds, such as 20", param="x-penstock-max-wait")
