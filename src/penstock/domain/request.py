"""Inference requests, with the fields that routing needs."""

import enum
from dataclasses import dataclass

from penstock.domain.complexity import RequestProfile

BYTES_PER_TOKEN = 4
"""Estimate for texts whose tokens nobody has counted."""


class Operation(enum.Enum):
    """Kind of a call, which decides the models and engines that can serve it."""

    CHAT = "chat"
    COMPLETION = "completion"
    EMBEDDING = "embedding"
    AGENT = "agent"
    COUNT = "count"
    MANAGE = "manage"


@dataclass(slots=True)
class Call:
    """An inference request, parsed as far as routing needs; its body stays unchanged.

    `wire` is the request and response format, e.g. `openai.chat`; an engine with the same wire gets `body` unchanged.
    `model` is the name that the client sent, or "". `kinds` restricts and orders the kinds of engine; empty means any.
    `use_defaults` applies the configured token limit and temperature if the client sent none. `server` is the name of
    the only server that the client allows. `flags` are the dialect's notes from `parse_request` for its renderer (e.g.
    `usage`). `profile` is set if the gateway chooses the model. `max_wait` is the client's maximum of seconds to the
    first token. Calls with the same `session` go to the same server if possible, for its prompt cache. Not frozen, for
    speed: created for every request.
    """

    wire: str
    operation: Operation
    model: str
    stream: bool
    body: bytes
    kinds: tuple[str, ...] = ()
    use_defaults: bool = False
    server: str = ""
    flags: frozenset[str] = frozenset()
    max_tokens: int | None = None
    profile: RequestProfile | None = None
    max_wait: float | None = None
    session: bytes = b""

    @property
    def is_automatic(self) -> bool:
        """Return whether the gateway chooses the model: none is named, or `auto`, `auto:fast` and the like."""
        name = self.model[:5].lower()
        return name in ("", "auto", "auto:")


@dataclass(frozen=True, slots=True)
class Defaults:
    """Defaults from the settings for what a call leaves out. `distributed`: several servers form one fleet.

    `resume`: another server continues a stream whose server fails. `hedge_after`: seconds without a first byte after
    which the request is also sent to a second server; 0 is never.
    """

    model: str = "llama3.1:8b"
    max_tokens: int = 256
    temperature: float = 0.7
    stream: bool = False
    distributed: bool = True
    resume: bool = False
    hedge_after: float = 0.0
