"""The service API: one message in, one answer out, in plain words (`POST /chat`).

The answer's keys are those of the service's document; `metadata` says who answered and why, and `warning` is there
when something else than asked for did. Times are UTC.
"""

from dataclasses import dataclass

import msgspec

from penstock.dialects.base import Dialect, Renderer
from penstock.dialects.service import metadata
from penstock.dialects.service.request import Temperature, Tokens, TopP, Turn, Words, chosen, conversation, read, spoken
from penstock.domain.content import Chat, Content, Sampling
from penstock.domain.errors import PenstockError
from penstock.domain.request import Call, Operation
from penstock.domain.response import Chunk, ModelResponse, Usage
from penstock.domain.response_metadata import Provenance


class _Body(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    message: Words
    model: str | None = None
    history: tuple[Turn, ...] | None = None
    max_tokens: Tokens | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    system: str | None = None
    chat_id: str | None = None


_body = msgspec.json.Decoder(_Body)


def _chat(body: bytes) -> Chat:
    asked = read(_body, body)
    return Chat(
        conversation(asked.system or "", asked.history, asked.message),
        sampling=Sampling(max_tokens=asked.max_tokens, temperature=asked.temperature, top_p=asked.top_p),
    )


def render_error(error: PenstockError, request_id: str) -> bytes:
    """An error in the service's form: `response` says it to a person, `render_error` to a program."""
    return msgspec.json.encode(
        {
            "status": "error",
            "response": error.message,
            "error": metadata.fault(error, request_id),
            "model": None,
            "timestamp": metadata.stamp_now(),
        }
    )


@dataclass(frozen=True, slots=True)
class _Renderer:
    request_id: str
    content_type: bytes = b"application/json"

    def render_chunk(self, chunk: Chunk) -> bytes:
        return b""

    def render_end(self) -> bytes:
        return b""

    def render_error(self, error: PenstockError) -> bytes:
        return render_error(error, self.request_id)

    def render_response(self, answer: ModelResponse, provenance: Provenance) -> bytes:
        choice = metadata.first(answer)
        drawn = {
            "status": "success",
            "response": choice.text or choice.refusal,
            "model": provenance.model,
            **metadata.tokens(answer),
            "timestamp": metadata.stamp_answer(provenance),
            "metadata": metadata.metadata(provenance, answer),
        }
        if choice.thinking:
            drawn["thinking"] = choice.thinking
        if provenance.warning:
            drawn["warning"] = provenance.warning
        return msgspec.json.encode(drawn)


@dataclass(frozen=True, slots=True)
class _ChatEndpoint:
    """`{message, model?, history?, max_tokens?, temperature?, top_p?, system?, chat_id?}`; one whole answer."""

    wire: str = "service.chat"
    method: str = "POST"
    paths: tuple[str, ...] = ("/chat", "/v1/chat")

    def parse_request(self, body: bytes, content_type: bytes) -> Call:
        asked = read(_body, body)
        spoken(asked.message, "message")
        return Call(
            self.wire,
            Operation.CHAT,
            chosen(asked.model),
            stream=False,
            body=body,
            defaults=True,
            max_tokens=asked.max_tokens,
        )

    def decode_content(self, call: Call) -> Content:
        return _chat(call.body)

    def create_renderer(self, call: Call, provenance: Provenance) -> Renderer:
        return _Renderer(provenance.request_id)

    def parse_usage(self, tail: bytes, streamed: bool) -> Usage | None:
        return metadata.usage(tail)

    def is_complete(self, tail: bytes) -> bool:
        return tail.rstrip().endswith(b"}")

    def render_interruption(self, error: PenstockError) -> bytes:
        return b"\n" + render_error(error, "")


DIALECT = Dialect(
    "service",
    (_ChatEndpoint(),),
    render_error,
    prefixes=("/chat", "/health", "/v1/health", "/models", "/stats", "/v1/stats", "/v2/", "/v3/"),
)
