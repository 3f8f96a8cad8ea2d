"""`POST /api/v1/chat`: the service API with details on distributed routing, as `{success, message, metadata}`."""

from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from penstock.dialects.base import Dialect, Renderer, UnstreamedRenderer
from penstock.dialects.service import metadata
from penstock.dialects.service.request import (
    HistoryMessage,
    NonEmptyText,
    build_messages,
    check_not_blank,
    decode_body,
    parse_model,
)
from penstock.dialects.service.unstreamed import UnstreamedEndpoint
from penstock.domain.content import Chat, Content
from penstock.domain.errors import PenstockError
from penstock.domain.provenance import Provenance
from penstock.domain.request import Call, Operation
from penstock.domain.response import ModelResponse


class _Body(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """Body of a request. `mode` restricts the automatic choice of a model; `context` becomes a system message."""

    message: NonEmptyText
    history: tuple[HistoryMessage, ...] | None = None
    model: str | None = None
    provider: str | None = None
    context: str | dict[str, Any] | None = None
    mode: Literal["auto", "fast", "balanced", "powerful", "code"] | None = None


_decoder = msgspec.json.Decoder(_Body)


def _decode_chat(body: bytes) -> Chat:
    fields = decode_body(_decoder, body)
    context = fields.context or ""
    system_text = context if isinstance(context, str) else msgspec.json.encode(context).decode()
    return Chat(build_messages(system_text, fields.history, fields.message))


def render_error(error: PenstockError, request_id: str) -> bytes:
    """Render an error as `{"success": false, "error": …, "code": …}`."""
    fields = metadata.build_error_fields(error, request_id)
    return msgspec.json.encode({"success": False, "error": fields.pop("message")} | fields)


@dataclass(frozen=True, slots=True)
class _Renderer(UnstreamedRenderer):
    request_id: str

    def render_error(self, error: PenstockError) -> bytes:
        return render_error(error, self.request_id)

    def render_response(self, response: ModelResponse, provenance: Provenance) -> bytes:
        choice = metadata.first_choice(response)
        body: dict[str, Any] = {"success": True, "message": choice.text or choice.refusal}
        if choice.thinking:
            body["thinking"] = choice.thinking
        if provenance.warning:
            body["warning"] = provenance.warning
        body["metadata"] = metadata.build_metadata(provenance, response) | metadata.build_token_counts(response)
        return msgspec.json.encode(body)


@dataclass(frozen=True, slots=True)
class _ChatEndpoint(UnstreamedEndpoint):
    """Endpoint of `{message, history?, model?, provider?, context?, mode?}`."""

    wire: str = "service.routed"
    method: str = "POST"
    paths: tuple[str, ...] = ("/api/v1/chat",)

    def parse_request(self, body: bytes, content_type: bytes) -> Call:
        fields = decode_body(_decoder, body)
        check_not_blank(fields.message, "message")
        model = parse_model(fields.model)
        if not model and fields.mode not in (None, "auto"):
            model = f"auto:{fields.mode}"
        provider = (fields.provider or "").strip().lower()
        kinds = () if provider in ("", "auto") else (provider,)
        return Call(self.wire, Operation.CHAT, model, stream=False, body=body, kinds=kinds, use_defaults=True)

    def decode_content(self, call: Call) -> Content:
        return _decode_chat(call.body)

    def create_renderer(self, call: Call, provenance: Provenance) -> Renderer:
        return _Renderer(provenance.request_id)

    def render_interruption(self, error: PenstockError) -> bytes:
        return b"\n" + render_error(error, "")


DIALECT = Dialect(
    "distributed",
    (_ChatEndpoint(),),
    render_error,
    prefixes=("/api/v1/", "/api/models/", "/api/route", "/api/decisions"),
)
