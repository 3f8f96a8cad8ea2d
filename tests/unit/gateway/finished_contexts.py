"""Contexts of calls that have ended, for tests of observers and of what they keep."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from penstock.domain.errors import PenstockError
from penstock.domain.fleet import Deployment
from penstock.domain.request import Call, Operation
from penstock.domain.response import Usage
from penstock.domain.routing_decision import Decision
from penstock.gateway.request_context import UNROUTED, RequestContext
from tests.unit.gateway.recording_client import RecordingClient

ENDPOINT: Any = SimpleNamespace(wire="openai.chat", paths=("/v1/chat/completions",))


@dataclass
class FakeRelay:
    """Result of a relay."""

    usage: Usage | None = None
    piece_count: int = 0
    status: int = 200
    request_sent: bool = True


def finished_context(
    *,
    call: Call | None = None,
    decision: Decision = UNROUTED,
    deployment: Deployment | None = None,
    attempts: int = 1,
    failure: PenstockError | None = None,
    relay: FakeRelay | None = None,
    started_at: float = 100.0,
    first_byte_at: float = 0.0,
    finished_at: float = 101.0,
    **fields: object,
) -> RequestContext:
    """Build the context of a call that took one second; `fields` are set on it as they are."""
    client: Any = RecordingClient()
    client.first_byte_at = first_byte_at
    ctx = RequestContext(client, ENDPOINT, started_at)
    ctx.call = call or Call("openai.chat", Operation.CHAT, "m", True, b"{}")
    ctx.decision = decision
    ctx.deployment = deployment
    ctx.attempts = attempts
    ctx.failure = failure
    ctx.relay = relay
    for name, value in fields.items():
        setattr(ctx, name, value)
    ctx.finish(finished_at)
    return ctx
