"""Base of a simulated kind of server: its routes, the style of its responses, and its error bodies."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from penstock.sim.exchange import Exchange, Style
from penstock.sim.generated_text import Answer, GenerationRequest, compose_answer
from penstock.sim.options import SimModel, SimOptions
from penstock.sim.speed_model import SpeedModel

Handler = Callable[[Exchange], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Route:
    """The handler of a method on a path; `generates` marks the routes that run a model."""

    handler: Handler
    generates: bool = False


class Kind(ABC):
    """The protocol of a server over a speed model.

    `routes` maps path to method to route; a path that ends in `/*` takes anything after it.
    """

    name: ClassVar[str]
    default_models: ClassVar[tuple[str, ...]] = ()
    style: ClassVar[Style] = Style()
    slots_per_model: ClassVar[bool] = False
    # Single-model servers hold their model from the start; `refuses_while_loading` ones do not listen before.
    one_model: ClassVar[bool] = False
    refuses_while_loading: ClassVar[bool] = False

    def __init__(self, engine: SpeedModel, options: SimOptions) -> None:
        self.engine = engine
        self.options = options
        self.routes: dict[str, dict[str, Route]] = {}
        # Background tasks; the simulator cancels them.
        self.background: set[asyncio.Task[None]] = set()

    async def intercept(self, exchange: Exchange) -> bool:
        """Inspect a request before its route is called; return True if it has been answered."""
        return False

    @abstractmethod
    async def answer_unknown_route(self, exchange: Exchange, allowed: tuple[str, ...]) -> None:
        """Answer an unknown path, or a method that is not among the allowed ones."""

    @abstractmethod
    def build_error_body(self, status: int, message: str) -> bytes:
        """Build an error body in the format of this kind."""

    @property
    def models(self) -> tuple[SimModel, ...]:
        return self.engine.models

    def find_routes(self, path: str) -> dict[str, Route] | None:
        """Return the routes of a path by method."""
        if (exact := self.routes.get(path)) is not None:
            return exact
        for pattern, methods in self.routes.items():
            if pattern.endswith("/*") and path.startswith(pattern[:-1]) and len(path) > len(pattern) - 1:
                return methods
        return None

    def compose_answer(self, ask: GenerationRequest) -> Answer:
        return compose_answer(self.options, ask, self.encode_json)

    def encode_json(self, value: Any) -> bytes:
        return msgspec.json.encode(value)

    async def reply_json(self, exchange: Exchange, value: Any, status: int = 200) -> None:
        await exchange.reply(status, self.encode_json(value), self.style.json_type)

    async def reply_error(self, exchange: Exchange, status: int, message: str) -> None:
        await exchange.reply(status, self.build_error_body(status, message), self.style.json_type)
