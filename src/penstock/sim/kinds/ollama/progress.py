"""Progress of a long operation: sent line by line, or waited for."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime
from typing import Any

from penstock.sim.exchange import Exchange
from penstock.sim.kinds.ollama.go.text import encode_json
from penstock.sim.kinds.ollama.handler import BARE_JSON, NDJSON, OllamaError

Progress = AsyncGenerator[dict[str, Any], None]


async def send_progress(exchange: Exchange, progress: Progress, *, streamed: bool) -> None:
    """Send the progress line by line, or only its last line. Raises the OllamaError that it ends with."""
    last: dict[str, Any] = {}
    try:
        async with aclosing(progress):
            async for line in progress:
                last = line
                if streamed:
                    if not exchange.started:
                        await exchange.start(200, NDJSON)
                    await exchange.send(encode_json(line) + b"\n")
    except OllamaError as error:
        raise OllamaError(error.status, error.message, "streamed" if streamed else "waited") from None
    if streamed:
        await exchange.finish()
    else:
        await exchange.reply(200, encode_json(last), BARE_JSON)


def current_time() -> datetime:
    return datetime.now().astimezone()
