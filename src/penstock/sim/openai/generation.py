"""A generation sent in OpenAI's format, complete or as server-sent events; kinds of server override what differs."""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from penstock.sim.exchange import Exchange, Headers
from penstock.sim.generated_text import Answer, GenerationRequest
from penstock.sim.kind import Kind
from penstock.sim.openai.request import Wish
from penstock.sim.openai.response import DONE, EVENTS, encode_event
from penstock.sim.options import SimModel
from penstock.sim.speed_model import EngineCrashError, QueueFullError, Session

Chunk = dict[str, Any]


@dataclass(slots=True)
class Generation(ABC):
    """The answers to one request, `wish.n` for each prompt, and the exchange that they are sent to.

    `head_first` servers send the head before they generate, so that later errors are reported inside the stream.
    """

    head_first: ClassVar[bool] = False
    event_type: ClassVar[str] = EVENTS
    event_headers: ClassVar[Headers] = ()
    broken: ClassVar[str] = "the simulated engine broke"
    full: ClassVar[str] = "the simulated server has no room for another request"

    kind: Kind
    exchange: Exchange
    model: SimModel
    asks: Sequence[GenerationRequest]
    answers: Sequence[Answer]
    wish: Wish
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def prompt_tokens(self) -> int:
        return sum(ask.prompt_tokens for ask in self.asks)

    @property
    def choices(self) -> list[Answer]:
        return [answer for answer in self.answers for _ in range(self.wish.n)]

    @property
    def completion_tokens(self) -> int:
        return sum(answer.token_count for answer in self.choices)

    @property
    def max_token_count(self) -> int:
        return max(answer.token_count for answer in self.answers)

    @abstractmethod
    def complete_body(self, session: Session) -> Any:
        """Build the body of a response that is not streamed."""

    @abstractmethod
    def opening_chunks(self) -> list[Chunk]:
        """Build the chunks that precede the first token."""

    @abstractmethod
    def token_chunks(self, index: int, answer: Answer) -> list[Chunk]:
        """Build the chunks of a choice, one a token."""

    @abstractmethod
    def closing_chunks(self, session: Session) -> list[Chunk]:
        """Build the chunks between the last token and `[DONE]`."""

    async def run(self) -> None:
        await (self._send_stream() if self.wish.stream else self._send_complete())

    async def _send_complete(self) -> None:
        try:
            async with self.kind.engine.open_session(self.model, crash=self.exchange.fault) as session:
                await session.read_prompt(self.prompt_tokens)
                for _ in range(self.max_token_count):
                    await session.generate_token()
        except EngineCrashError:
            await self.kind.reply_error(self.exchange, 500, self.broken)
        except QueueFullError:
            await self.kind.reply_error(self.exchange, 503, self.full)
        else:
            await self.kind.reply_json(self.exchange, self.complete_body(session))

    async def _send_stream(self) -> None:
        if self.head_first:
            await self.exchange.start(200, self.event_type, self.event_headers)
        try:
            async with self.kind.engine.open_session(self.model, crash=self.exchange.fault) as session:
                await session.read_prompt(self.prompt_tokens)
                await self._generate_tokens(session)
                for chunk in self.closing_chunks(session):
                    await self.exchange.send(encode_event(chunk))
        except EngineCrashError:
            await self._report_crash(500, self.broken)
        except QueueFullError:
            await self._report_crash(503, self.full)
        else:
            await self.exchange.send(DONE)
            await self.exchange.finish()

    async def _generate_tokens(self, session: Session) -> None:
        rows = [self.token_chunks(index, answer) for index, answer in enumerate(self.choices)]
        for step in range(max(1, self.max_token_count, *map(len, rows))):
            await session.generate_token()
            if step == 0:
                if not self.exchange.started:
                    await self.exchange.start(200, self.event_type, self.event_headers)
                for chunk in self.opening_chunks():
                    await self.exchange.send(encode_event(chunk))
            for row in rows:
                if step < len(row):
                    await self.exchange.send(encode_event(row[step]))

    async def _report_crash(self, status: int, message: str) -> None:
        if not self.exchange.started:
            await self.kind.reply_error(self.exchange, status, message)
            return
        await self.exchange.send(b"data: " + self.kind.build_error_body(status, message) + b"\n\n")
        await self.exchange.send(DONE)
        await self.exchange.finish()
