"""Ways to look at an engine and to ask it, without a server."""

from typing import Any

import msgspec

from penstock.domain.content import Content
from penstock.domain.fleet import Inventory, Model
from penstock.domain.request import Call, Operation
from penstock.engines.base import Engine, EngineRequest, FetchResponse


def look(engine: Engine, answers: dict[str, Any], known: tuple[Model, ...] = ()) -> Inventory:
    """What looking finds, where these paths answer so: a body with 200, or (status, body); others are not there."""
    steps = engine.inspect_server(known)
    fetch = next(steps)
    while True:
        answer = answers.get(fetch.path, (404, b'{"detail":"Not Found"}'))
        status, body = answer if isinstance(answer, tuple) else (200, answer)
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        fetched = FetchResponse(0) if fetch.optional and status == 404 else FetchResponse(status, data)
        try:
            fetch = steps.send(fetched)
        except StopIteration as end:
            found: Inventory = end.value
            return found


def call(
    wire: str = "anthropic.messages",
    *,
    stream: bool = False,
    operation: Operation = Operation.CHAT,
    body: bytes = b"{}",
) -> Call:
    """A call in some wire."""
    return Call(wire, operation, "m", stream, body)


def ask(engine: Engine, content: Content, asked: Call | None = None) -> tuple[EngineRequest, Any]:
    """What is sent for this content, and its body decoded."""
    outgoing = engine.translate_request(asked or call(), content, Model("served"))
    return outgoing, msgspec.json.decode(outgoing.body)
