"""One request for inference, as the gateway sees it before anybody has looked inside."""

import enum
from dataclasses import dataclass

from penstock.domain.complexity import RequestProfile


class Operation(enum.Enum):
    """What kind of work a call is: decides which models and engines can take it."""

    CHAT = "chat"
    COMPLETION = "completion"
    EMBEDDING = "embedding"
    AGENT = "agent"
    COUNT = "count"
    MANAGE = "manage"


@dataclass(slots=True)
class Call:
    """An inference request, read just far enough to be routed; its body stays as it came.

    `wire` names the request and answer format, e.g. `openai.chat`: an engine that speaks the same gets `body` as it
    is. `model` is what the caller wrote, "" when nothing. `kinds` restricts and orders the kinds of engine that may
    answer; empty means any. `defaults` asks for the configured token limit and temperature where the caller gave none.
    `server` is the name of the one server that the caller picked. `flags` is the dialect's own memory from `read` to
    its writer (e.g. include_usage). `profile` is what the choice of a model turns on, where it is left to the gateway.
    `max_wait` is the seconds to the first token that the caller is ready to wait. `session` names what belongs
    together, so that it finds its prompt's beginning in the same server's memory. Not frozen: made for
    every request on the hot path; nobody changes it after `read`.
    """

    wire: str
    operation: Operation
    model: str
    stream: bool
    body: bytes
    kinds: tuple[str, ...] = ()
    defaults: bool = False
    server: str = ""
    flags: frozenset[str] = frozenset()
    max_tokens: int | None = None
    profile: RequestProfile | None = None
    max_wait: float | None = None
    session: bytes = b""

    @property
    def is_automatic(self) -> bool:
        """Whether the model's choice is left to the gateway: none is named, or `auto`, `auto:fast` and the like."""
        name = self.model[:5].lower()
        return name in ("", "auto", "auto:")


@dataclass(frozen=True, slots=True)
class Defaults:
    """What settings put in where a call leaves it out; `distributed` is whether several servers are one fleet.

    `resume`: a stream whose server dies goes on on another where it can. `hedge_after`: seconds without a first byte
    after which a second server is asked beside the first; 0 is never.
    """

    model: str = "llama3.1:8b"
    max_tokens: int = 256
    temperature: float = 0.7
    stream: bool = False
    distributed: bool = True
    resume: bool = False
    hedge_after: float = 0.0
