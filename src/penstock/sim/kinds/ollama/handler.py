"""Base of the handlers of a simulated Ollama: library and speed model, Go's JSON, and error responses."""

import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from penstock.sim.exchange import Exchange
from penstock.sim.kind import Handler, Route
from penstock.sim.kinds.ollama.fields import BadOptionError
from penstock.sim.kinds.ollama.go_json import BadBodyError
from penstock.sim.kinds.ollama.library import Installed, Library
from penstock.sim.kinds.ollama.model_names import Name, parse_name
from penstock.sim.options import SimOptions
from penstock.sim.speed_model import EngineCrashError, QueueFullError, SpeedModel

JSON = "application/json; charset=utf-8"
BARE_JSON = "application/json"
NDJSON = "application/x-ndjson"
BUSY = "server busy, please try again.  maximum pending requests exceeded"
CRASHED = (
    "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, "
    "check ollama server logs for details"
)
_ESCAPES = (
    (b"<", b"\\u003c"),
    (b">", b"\\u003e"),
    (b"&", b"\\u0026"),
    ("\u2028".encode(), b"\\u2028"),
    ("\u2029".encode(), b"\\u2029"),
)


class OllamaError(Exception):
    """The request is answered with an error; `bare` ones have no charset in their content type."""

    def __init__(self, status: int, message: str, *, bare: bool = False) -> None:
        super().__init__(message)
        self.status, self.message, self.bare = status, message, bare


def encode_json(value: Any) -> bytes:
    """Encode JSON as Go does; the escaped characters occur in strings only."""
    text = msgspec.json.encode(value)
    for plain, escaped in _ESCAPES:
        if plain in text:
            text = text.replace(plain, escaped)
    return text


@dataclass(slots=True)
class Core:
    """The state that all handlers of a server share."""

    engine: SpeedModel
    options: SimOptions
    library: Library


class Handlers:
    """A group of routes over one core."""

    def __init__(self, core: Core) -> None:
        self.core = core

    def guard_route(self, handler: Handler, *, generates: bool = False) -> Route:
        return Route(functools.partial(self._run_guarded, handler), generates)

    async def reply_json(self, exchange: Exchange, value: Any, status: int = 200, content_type: str = JSON) -> None:
        await exchange.reply(status, encode_json(value), content_type)

    async def reply_error(self, exchange: Exchange, error: OllamaError) -> None:
        """Answer with an error, or end a started stream with one."""
        if exchange.started:
            await exchange.send(encode_json({"error": error.message}) + b"\n")
            await exchange.finish()
        else:
            await self.reply_json(exchange, {"error": error.message}, error.status, BARE_JSON if error.bare else JSON)

    async def _run_guarded(self, handler: Callable[[Exchange], Awaitable[None]], exchange: Exchange) -> None:
        try:
            await handler(exchange)
        except BadBodyError as error:
            await self.reply_error(exchange, OllamaError(400, str(error)))
        except BadOptionError as error:
            await self.reply_error(exchange, OllamaError(500, str(error)))
        except QueueFullError:
            await self.reply_error(exchange, OllamaError(503, BUSY))
        except EngineCrashError:
            await self.reply_error(exchange, OllamaError(500, CRASHED, bare=True))
        except OllamaError as error:
            await self.reply_error(exchange, error)

    def find_installed(self, text: str, missing: OllamaError) -> Installed:
        """Find the installed model of that name. Raises `missing`, or an OllamaError for a malformed or cloud name."""
        installed = self.core.library.find(well_named(text))
        if installed is None:
            raise missing
        return installed


def well_named(text: str) -> Name:
    name = parse_name(text)
    if name is None:
        raise OllamaError(400, "invalid model name")
    if name.is_cloud:
        raise OllamaError(403, "ollama cloud is disabled: remote model is unavailable")
    return name
