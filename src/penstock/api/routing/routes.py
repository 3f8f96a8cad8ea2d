"""Why a request goes where it goes: what would be decided now, and what has been decided of late."""

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from penstock.api.dependencies import ApiDependencies
from penstock.api.json_responses import json_response, read_body
from penstock.api.routing import views as drawing
from penstock.domain.errors import InvalidRequest
from penstock.domain.request import Call
from penstock.gateway.observers.decision_log import MAX_DECISIONS
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
        call = _apply_headers(endpoint.parse_request(body, b"application/json"), request)
        context, routing = self._context, self._context.routing
        fleet = context.catalog.fleet
        ask = profile_request(endpoint.decode_content(call), routing.classifier()) if call.is_automatic else None
        if ask is not None and routing.router.should_select_model(fleet, call):
            call = replace(call, profile=ask)
        decision = routing.router.decide(fleet, call, context.catalog.loads, context.clock(), explain=True)
        return json_response(drawing.render_explanation(decision, call, ask, self._waits))

    async def get_decisions(self, limit: Annotated[int, Query(ge=1, le=MAX_DECISIONS)] = DEFAULT_LIMIT) -> Response:
        """The last decisions, newest first, and what became of each; never a word of what was said."""
        context = self._context
        records = context.routing.decisions()
        offset = context.wall() - context.clock()
        decisions = [
            drawing.render_decision(record, record.started_at + offset) for record in reversed(records[-limit:])
        ]
        return json_response(drawing.render_history(decisions, len(records), context.wall()))


def _apply_headers(call: Call, request: Request) -> Call:
    """Return the call with the headers that the request itself would be sent with."""
    max_wait, session = request.headers.get("x-penstock-max-wait"), request.headers.get("x-session-id", "")
    return replace(
        call,
        max_wait=None if max_wait is None else _parse_max_wait(max_wait),
        session=session.encode("latin-1")[:MAX_SESSION_LENGTH],
    )


def _parse_max_wait(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < MAX_WAIT_SECONDS:
        raise InvalidRequest(
            "The header x-penstock-max-wait must be a number of seconds, such as 20.", param="x-penstock-max-wait"
        )
    return seconds
