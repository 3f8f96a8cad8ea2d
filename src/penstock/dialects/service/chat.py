"""`POST /chat` of the service API: one message in, one text out.

The keys of the response are those of the service API's documentation. `metadata` names the server and model and the
reason for the choice; `warning` is present if a substitute answered. Times are UTC.
"""

from dataclasses import dataclass

import msgspec

from penstock.dialects.base import Dialect, Renderer, UnstreamedRenderer
from penstock.dialects.service import metadata
from penstock.dialects.service.request import (
    HistoryMessage,
    NonEmptyText,
    Temperature,
    TokenLimit,
    TopP,
    build_messages,
    check_not_blank,
    decode_body,
    parse_model,
)
from penstock.dialects.service.unstreamed import UnstreamedEndpoint
from penstock.domain.content import Chat, Content, Sampling
from penstock.domain.errors import PenstockError
from penstock.domain.provenance import Provenance
from penstock.domain.request import Call, Operation
from penstock.domain.response import ModelResponse


class _Body(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    message: NonEmptyText
    model: str | None = None
    history: tuple[HistoryMessage, ...] | None = None
    max_tokens: TokenLimit | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    system: str | None = None
    chat_id: str | None = None


_decoder = msgspec.json.Decoder(_Body)


def _decode_chat(body: bytes) -> Chat:
    fields = decode_body(_decoder, body)
    return Chat(
        build_messages(fields.system or "", fields.history, fields.message),
        sampling=Sampling(max_tokens=fields.max_tokens, temperature=fields.temperature, top_p=fields.top_p),
    )


def render_error(error: PenstockError, request_id: str) -> bytes:
    """Render an error: `response` is for people, `error` for programs."""
    return msgspec.json.encode(
        {
            "status": "error",
            "response": error.message,
            "error": metadata.build_error_fields(error, request_id),
            "model": None,
            "timestamp": metadata.format_now(),
        }
    )


@dataclass(frozen=True, slots=True)
class _Renderer(UnstreamedRenderer):
    request_id: str

    def render_error(self, error: PenstockError) -> bytes:
        return render_error(error, self.request_id)

    def render_response(self, response: ModelResponse, provenance: Provenance) -> bytes:
        choice = metadata.first_choice(response)
        body = {
            "status": "success",
            "response": choice.text or choice.refusal,
            "model": provenance.model,
            **metadata.build_token_counts(response),
            "timestamp": metadata.format_completion_time(provenance),
            "metadata": metadata.build_metadata(provenance, response),
        }
        if choice.thinking:
            body["thinking"] = choice.thinking
        if provenance.warning:
            body["warning"] = provenance.warning
        return msgspec.json.encode(body)


@dataclass(frozen=True, slots=True)
class _ChatEndpoint(UnstreamedEndpoint):
    """Endpoint of `{message, model?, history?, max_tokens?, temperature?, top_p?, system?, chat_id?}`."""

    wire: str = "service.chat"
    method: str = "POST"
    paths: tuple[str, ...] = ("/chat", "/v1/chat")

    def parse_request(self, body: bytes, content_type: bytes) -> Call:
        fields = decode_body(_decoder, body)
        check_not_blank(fields.message, "message")
        return Call(
            self.wire,
            Operation.CHAT,
            parse_model(fields.model),
            stream=False,
            body=body,
            use_defaults=True,
            max_tokens=fields.max_tokens,
        )

    def decode_content(self, call: Call) -> Content:
        return _decode_chat(call.body)

    def create_renderer(self, call: Call, provenance: Provenance) -> Renderer:
        return _Renderer(provenance.request_id)

    def render_interruption(self, error: PenstockError) -> bytes:
        return b"\n" + render_error(error, "")


DIALECT = Dialect(
    "service",
    (_ChatEndpoint(),),
    render_error,
    prefixes=("/chat", "/health", "/v1/health", "/models", "/stats", "/v1/stats", "/v2/", "/v3/"),
)
