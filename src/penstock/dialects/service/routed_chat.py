"""The service API with distributed routing in plain sight (`POST /api/v1/chat`): `{success, message, metadata}`."""

from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from penstock.dialects.base import Dialect, Renderer
from penstock.dialects.service import metadata
from penstock.dialects.service.request import Turn, Words, chosen, conversation, read, spoken
from penstock.domain.content import Chat, Content
from penstock.domain.errors import PenstockError
from penstock.domain.request import Call, Operation
from penstock.domain.response import Chunk, ModelResponse, Usage
from penstock.domain.response_metadata import Provenance


class _Body(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """`mode` narrows the automatic choice of a model; `context` is what the model is to know beforehand."""

    message: Words
    history: tuple[Turn, ...] | None = None
    model: str | None = None
    provider: str | None = None
    context: str | dict[str, Any] | None = None
    mode: Literal["auto", "fast", "balanced", "powerful", "code"] | None = None


_body = msgspec.json.Decoder(_Body)


def _chat(body: bytes) -> Chat:
    asked = read(_body, body)
    context = asked.context or ""
    standing = context if isinstance(context, str) else msgspec.json.encode(context).decode()
    return Chat(conversation(standing, asked.history, asked.message))


def render_error(error: PenstockError, request_id: str) -> bytes:
    """An error as `{"success": false, "error": …, "code": …}`."""
    fault = metadata.fault(error, request_id)
    return msgspec.json.encode({"success": False, "error": fault.pop("message")} | fault)


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
        drawn: dict[str, Any] = {"success": True, "message": choice.text or choice.refusal}
        if choice.thinking:
            drawn["thinking"] = choice.thinking
        if provenance.warning:
            drawn["warning"] = provenance.warning
        drawn["metadata"] = metadata.metadata(provenance, answer) | metadata.tokens(answer)
        return msgspec.json.encode(drawn)


@dataclass(frozen=True, slots=True)
class _ChatEndpoint:
    """`{message, history?, model?, provider?, context?, mode?}`; one whole answer, with how it was routed."""

    wire: str = "service.routed"
    method: str = "POST"
    paths: tuple[str, ...] = ("/api/v1/chat",)

    def parse_request(self, body: bytes, content_type: bytes) -> Call:
        asked = read(_body, body)
        spoken(asked.message, "message")
        model = chosen(asked.model)
        if not model and asked.mode not in (None, "auto"):
            model = f"auto:{asked.mode}"
        provider = (asked.provider or "").strip().lower()
        kinds = () if provider in ("", "auto") else (provider,)
        return Call(self.wire, Operation.CHAT, model, stream=False, body=body, kinds=kinds, defaults=True)

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
    "distributed",
    (_ChatEndpoint(),),
    render_error,
    prefixes=("/api/v1/", "/api/models/", "/api/route", "/api/decisions"),
)
