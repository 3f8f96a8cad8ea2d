"""What all OpenAI-compatible engines have in common: how they are asked, read and told apart from a failure."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import msgspec
from msgspec import Raw

from penstock.domain.call import Call, Operation
from penstock.domain.content import AgentTask, Chat, Content, Embedding, Thinking
from penstock.domain.errors import PenstockError, Unsupported
from penstock.domain.fleet import Model
from penstock.engines.base import Outgoing, Reader
from penstock.engines.openai_failure import read_failure
from penstock.engines.openai_request import carried, chat_fields, completion_fields, embedding_fields
from penstock.engines.openai_stream import EventReader, WholeReader, parse_answer

_encode = msgspec.json.Encoder().encode
_object = msgspec.json.Decoder(dict[str, Raw])


class OpenAIWire:
    """Base of the engines that speak OpenAI's wires; what differs between them are a few methods."""

    kind: ClassVar[str] = ""
    title: ClassVar[str] = ""
    native: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "openai.chat": "/v1/chat/completions",
            "openai.completions": "/v1/completions",
            "openai.embeddings": "/v1/embeddings",
        }
    )
    operations: ClassVar[frozenset[Operation]] = frozenset({Operation.CHAT, Operation.COMPLETION, Operation.EMBEDDING})

    def forward(self, call: Call, model: Model) -> Outgoing:
        """The body as it came; another name of the model is put in where the server knows it by another."""
        body = call.body
        if call.model != model.name:
            fields = _object.decode(body)
            fields["model"] = Raw(_encode(model.name))
            body = _encode(fields)
        return Outgoing(self.native[call.wire], body, streamed=call.stream)

    def translate(self, call: Call, content: Content, model: Model) -> Outgoing:
        """A request in OpenAI's words. A stream is always asked for its usage."""
        if isinstance(content, AgentTask):
            raise Unsupported(f"{self.title} is no agent: send this to one, or ask for a chat.")
        fields: dict[str, Any] = {"model": model.name}
        if isinstance(content, Embedding):
            return Outgoing(self.native["openai.embeddings"], _encode(fields | embedding_fields(content)))
        if isinstance(content, Chat):
            wire = "openai.chat"
            fields |= chat_fields(content, self.title)
            if content.thinking is not None:
                fields |= self.thinking(content.thinking)
        else:
            wire = "openai.completions"
            fields |= completion_fields(content, self.title)
        if call.stream:
            fields |= {"stream": True, "stream_options": {"include_usage": True}}
        fields |= carried(content.extra)
        return Outgoing(self.native[wire], _encode(fields), streamed=call.stream)

    def thinking(self, thinking: Thinking) -> dict[str, Any]:
        """How this engine is told to think or not."""
        return {"reasoning_effort": thinking.effort} if thinking.effort else {}

    def reader(self, call: Call, content: Content, outgoing: Outgoing) -> Reader:
        """Of events or of a whole body."""
        if outgoing.streamed:
            return EventReader(self.title)
        title = self.title
        return WholeReader(title, lambda body: parse_answer(body, title))

    def failure(self, status: int, body: bytes, retry_after: float | None) -> PenstockError:
        """The error that an error response tells of."""
        return read_failure(status, body, retry_after, self.title)

    def headers(self, api_key: str) -> tuple[tuple[bytes, bytes], ...]:
        """A bearer token where there is a key."""
        return ((b"authorization", b"Bearer " + api_key.encode()),) if api_key else ()
