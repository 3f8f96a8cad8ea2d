"""Base of the handlers of a simulated Ollama: library and speed model, and error responses."""

import functools
import ipaddress
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from penstock.sim.exchange import Exchange
from penstock.sim.kind import Handler, Route
from penstock.sim.kinds.ollama.go.decoder import BadBodyError
from penstock.sim.kinds.ollama.go.text import encode_json
from penstock.sim.kinds.ollama.library import Installed, Library
from penstock.sim.kinds.ollama.model_names import BadNameError, Reference, parse_reference
from penstock.sim.kinds.ollama.request_options import BadOptionError
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
BROKEN = "an error was encountered while running the model: unexpected EOF"

# How Ollama sends an error: as the handler's own answer; as the first element of a stream; or after it has waited for
# the end of a stream.
Delivery = Literal["direct", "streamed", "waited"]


class OllamaError(Exception):
    """The request is answered with an error."""

    def __init__(self, status: int, message: str, delivery: Delivery = "direct") -> None:
        super().__init__(message)
        self.status, self.message, self.delivery = status, message, delivery


@dataclass(slots=True)
class Core:
    """The state that all handlers of a server share; `described` holds the models that are or were loaded."""

    engine: SpeedModel
    options: SimOptions
    library: Library
    described: dict[str, Installed] = field(default_factory=dict)


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
        body = {"error": error.message}
        if exchange.started:
            await exchange.send(encode_json(body) + b"\n")
            await exchange.finish()
        elif error.delivery == "streamed":
            await exchange.start(error.status, BARE_JSON)
            await exchange.send(encode_json(body))
            await exchange.finish()
        else:
            await self.reply_json(exchange, body, error.status, BARE_JSON if error.delivery == "waited" else JSON)

    async def _run_guarded(self, handler: Callable[[Exchange], Awaitable[None]], exchange: Exchange) -> None:
        try:
            await handler(exchange)
        except BadBodyError as error:
            await self.reply_error(exchange, OllamaError(400, str(error)))
        except BadOptionError as error:
            await self.reply_error(exchange, OllamaError(500, str(error)))
        except QueueFullError:
            await self.reply_error(exchange, OllamaError(503, BUSY))
        except (EngineCrashError, RecursionError):  # llama-server too has a limit of depth for tools and schemas
            await self.reply_error(exchange, OllamaError(500, BROKEN if exchange.started else CRASHED))
        except OllamaError as error:
            await self.reply_error(exchange, error)

    def read_reference(self, text: str, unnamed: OllamaError) -> Reference:
        """Parse the model of a request. Raises `unnamed` if there is none, or an OllamaError for a bad name."""
        try:
            return parse_reference(text)
        except BadNameError as error:
            if error.reason == "conflict":
                raise OllamaError(400, str(error)) from None
            if error.reason == "unqualified":
                raise OllamaError(400, "invalid model name") from None
            raise unnamed from None

    def find_installed(self, text: str, unnamed: OllamaError, missing: OllamaError, path: str) -> Installed:
        """Find the model of a request to `path`. Raises OllamaError."""
        reference = self.read_reference(text, unnamed)
        if reference.source == "cloud":
            raise unreachable_cloud(path)
        installed = self.core.library.find(reference.name)
        if installed is None:
            raise missing
        return installed

    def remember_model(self, installed: Installed) -> None:
        """Remember a model that is about to be loaded: it is listed as loaded by that name, also when deleted."""
        self.core.described[installed.model.name] = installed


def unreachable_cloud(path: str) -> OllamaError:
    """Build the error of a request that goes to the cloud: this server has no way there."""
    url = f"https://ollama.com:443{path}?ts={int(time.time())}"
    return OllamaError(502, f'Post "{url}": {describe_dial_error("ollama.com:443")}')


def describe_dial_error(address: str) -> str:
    """Describe, as Go does, that there is no connection to an address."""
    host = address.rpartition(":")[0]
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return f"dial tcp: lookup {host}: no such host"
    return f"dial tcp {address}: connect: connection refused"
