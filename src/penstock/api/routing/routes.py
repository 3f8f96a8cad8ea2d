"""Routes that explain routing: where a request would go now, and the last decisions."""

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from penstock.api.dependencies import ApiDependencies
from penstock.api.json_responses import json_response, read_body
from penstock.api.routing import views
from penstock.domain.errors import InvalidRequest
from penstock.domain.request import Call
from penstock.gateway.observers.decision_log import MAX_DECISIONS
from penstock.gateway.routing import costs
from penstock.gateway.routing.complexity.request_profile import profile_request

MAX_BODY = 32 << 20
"""Bytes."""
MAX_SESSION_LENGTH, MAX_WAIT_SECONDS = 128, 1e9
DEFAULT_LIMIT = 100
"""Number of decisions returned by default."""

_TEXT = {"type": "string"}
_REQUEST_BODY: dict[str, Any] = {
    "description": "A body of `/api/v1/chat` (`text` is accepted for `message`) or of `/v1/chat/completions`.",
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
    """`/api/route` and `/api/decisions`. Neither sends a request to a server nor changes the state of routing."""

    def __init__(self, deps: ApiDependencies) -> None:
        self._deps = deps
        self._endpoints = {endpoint.wire: endpoint for dialect in deps.dialects for endpoint in dialect.endpoints}
        self._wait_signals = frozenset(signal.name for signal in costs.load_costs() if signal.is_wait)

    def build_router(self) -> APIRouter:
        """Build the routes."""
        router = APIRouter(tags=["routing"])
        router.add_api_route(
            "/api/route", self.post_route, methods=["POST"], openapi_extra={"requestBody": _REQUEST_BODY}
        )
        router.add_api_route("/api/decisions", self.get_decisions, methods=["GET"])
        return router

    async def post_route(self, request: Request) -> Response:
        """Explain where a request would go now, without generating anything.

        Returns the complexity, the type of task, and every candidate with its score, cost in seconds and reasons, best
        first.
        """
        wire, body = views.parse_question(await read_body(request, MAX_BODY))
        endpoint = self._endpoints[wire]
        call = _apply_headers(endpoint.parse_request(body, b"application/json"), request)
        deps, fleet = self._deps, self._deps.catalog.fleet
        profile = None
        if call.is_automatic:
            profile = profile_request(endpoint.decode_content(call), deps.gateway.classifier)
            if deps.router.should_select_model(fleet, call):
                call = replace(call, profile=profile)
        decision = deps.router.decide(fleet, call, deps.catalog.loads, deps.clock(), explain=True)
        return json_response(views.render_explanation(decision, call, profile, self._wait_signals))

    async def get_decisions(self, limit: Annotated[int, Query(ge=1, le=MAX_DECISIONS)] = DEFAULT_LIMIT) -> Response:
        """List the last routing decisions and their outcomes, newest first; texts are not recorded."""
        deps = self._deps
        records = deps.gateway.list_decisions()
        offset = deps.wall() - deps.clock()
        entries = [views.render_decision(record, record.started_at + offset) for record in reversed(records[-limit:])]
        return json_response(views.render_history(entries, len(records), deps.wall()))


def _apply_headers(call: Call, request: Request) -> Call:
    """Return the call with the routing headers, as they would apply to the request itself."""
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
