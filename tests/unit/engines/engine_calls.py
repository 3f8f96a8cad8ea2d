"""Helpers that probe an engine and translate content, without a server."""

from typing import Any

import msgspec

from penstock.domain.content import Content
from penstock.domain.fleet import Inventory, Model
from penstock.domain.request import Call, Operation
from penstock.engines.base import Engine, EngineRequest, FetchResponse


def inspect(engine: Engine, responses: dict[str, Any], known_models: tuple[Model, ...] = ()) -> Inventory:
    """Probe a server with `responses` by path: a body (status 200) or (status, body). Other paths answer 404."""
    steps = engine.inspect_server(known_models)
    fetch = next(steps)
    while True:
        response = responses.get(fetch.path, (404, b'{"detail":"Not Found"}'))
        status, body = response if isinstance(response, tuple) else (200, response)
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        fetched = FetchResponse(0) if fetch.optional and status == 404 else FetchResponse(status, data)
        try:
            fetch = steps.send(fetched)
        except StopIteration as end:
            inventory: Inventory = end.value
            return inventory


def make_call(
    wire: str = "anthropic.messages",
    *,
    stream: bool = False,
    operation: Operation = Operation.CHAT,
    body: bytes = b"{}",
) -> Call:
    """Create a call in some wire format."""
    return Call(wire, operation, "m", stream, body)


def translate(engine: Engine, content: Content, call: Call | None = None) -> tuple[EngineRequest, Any]:
    """Return the request for this content and its decoded body."""
    outgoing = engine.translate_request(call or make_call(), content, Model("served"))
    return outgoing, msgspec.json.decode(outgoing.body)
