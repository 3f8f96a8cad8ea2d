"""Stream that another server can continue: the text sent so far and the renderer that encodes it."""

from dataclasses import replace
from typing import Protocol

from penstock.dialects.base import Renderer
from penstock.domain.content import Chat, Completion, Content
from penstock.domain.errors import PenstockError, Unsupported
from penstock.domain.fleet import Model
from penstock.domain.provenance import Provenance
from penstock.domain.request import Call, Operation
from penstock.domain.response import Chunk
from penstock.domain.resumption import is_resumable, reduce_token_limit
from penstock.engines.base import Engine, EngineRequest


class InterruptedResponse(Protocol):
    """Response that broke off while the client's stream is kept open for another server."""

    def complete(self, finish: str = "") -> None:
        """End the client's stream normally, with `finish` as its finish reason if one is given."""
        ...

    def give_up(self, error: PenstockError) -> None:
        """End the client's stream with an error."""
        ...


class ResumableStream:
    """A client's stream that may outlive a server.

    `sent_text` holds the pieces that the client has received; `tokens` counts them, one a token. `provenance` and
    `renderer` are those of the first server. `text_only` is False once something other than text was sent; `finished`
    is True once the text is complete and only the closing events are missing. `interrupted` is the response that broke
    off last, while the client waits for another server to continue. `resumed` counts continuations.
    """

    __slots__ = (
        "content",
        "finished",
        "interrupted",
        "provenance",
        "renderer",
        "resumed",
        "sent_text",
        "text_only",
        "tokens",
    )  # fmt: skip

    def __init__(self, content: Chat | Completion) -> None:
        self.content = content
        self.sent_text: list[str] = []
        self.tokens = 0
        self.text_only = True
        self.finished = False
        self.interrupted: InterruptedResponse | None = None
        self.resumed = 0
        self.renderer: Renderer | None = None
        self.provenance: Provenance | None = None

    @classmethod
    def for_call(cls, call: Call, content: Content) -> "ResumableStream | None":
        """Return a stream for a call whose response can be continued, else None."""
        is_generation = call.stream and call.operation in (Operation.CHAT, Operation.COMPLETION)
        if is_generation and isinstance(content, Chat | Completion) and is_resumable(content):
            return cls(content)
        return None

    @property
    def text(self) -> str:
        """The text sent so far."""
        return "".join(self.sent_text)

    def create_request(self, engine: Engine, call: Call, model: Model) -> EngineRequest | None:
        """Return the request for the rest; None when the token limit is used up.

        Raises Unsupported when the engine cannot continue a response.
        """
        sampling = reduce_token_limit(self.content.sampling, self.tokens)
        if sampling is None:
            return None
        content = replace(self.content, sampling=sampling)
        sent_text = self.text.rstrip()
        if not sent_text:
            return engine.translate_request(call, content, model)
        request = engine.build_continuation(call, content, model, sent_text)
        if request is None:
            raise Unsupported(f"{engine.title} cannot continue a response that has begun.")
        return request

    def record_chunk(self, chunk: Chunk) -> None:
        """Add a chunk that is sent to the client."""
        if chunk.text:
            self.sent_text.append(chunk.text)
            self.tokens += 1
        if chunk.finish:
            self.finished = True
        if chunk.thinking or chunk.tool_calls or chunk.refusal or chunk.logprobs or chunk.step or chunk.choice:
            self.text_only = False
