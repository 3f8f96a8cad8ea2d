"""`/v1/embeddings`: vectors of texts."""

import base64
import struct
from typing import Any, ClassVar

import msgspec

from penstock.dialects.base import NO_FLAGS, UnstreamedRenderer
from penstock.dialects.json_body import collect_unknown_fields, decode_body
from penstock.dialects.openai.errors import render_error, render_interruption
from penstock.dialects.openai.request_fields import IGNORED_FIELDS, to_inputs
from penstock.dialects.openai.usage import parse_usage
from penstock.domain.content import Content, Embedding
from penstock.domain.errors import InvalidRequest, PenstockError, UpstreamGarbage
from penstock.domain.provenance import Provenance
from penstock.domain.request import Call, Operation
from penstock.domain.response import ModelResponse, Usage
from penstock.domain.unicode_repair import repair_unicode


class _RoutingFields(msgspec.Struct):
    input: msgspec.Raw
    model: str | None = None
    encoding_format: str | None = None


class _RequestFields(msgspec.Struct):
    input: str | list[str | int | list[int]]
    encoding_format: str | None = None
    dimensions: int | None = None


_routing_decoder = msgspec.json.Decoder(_RoutingFields)
_request_decoder = msgspec.json.Decoder(_RequestFields)
_KNOWN_FIELDS = IGNORED_FIELDS.union(_RequestFields.__struct_fields__)
_BASE64 = frozenset({"base64"})


class EmbeddingsEndpoint:
    """The embeddings wire. Flag: `base64` if vectors are requested in that format, as the official clients do."""

    wire: ClassVar[str] = "openai.embeddings"
    method: ClassVar[str] = "POST"
    paths: ClassVar[tuple[str, ...]] = ("/v1/embeddings",)

    def parse_request(self, body: bytes, content_type: bytes) -> Call:
        """Parse the routing fields in one pass."""
        body = repair_unicode(body)
        fields = decode_body(_routing_decoder, body, brackets=True)
        if fields.encoding_format not in {None, "float", "base64"}:
            raise InvalidRequest("`encoding_format` must be float or base64.", param="encoding_format")
        flags = _BASE64 if fields.encoding_format == "base64" else NO_FLAGS
        return Call("openai.embeddings", Operation.EMBEDDING, fields.model or "", False, body, flags=flags)

    def decode_content(self, call: Call) -> Content:
        """Decode the texts or token lists."""
        fields = decode_body(_request_decoder, call.body, brackets=True)
        return Embedding(
            inputs=to_inputs(fields.input, "input"),
            dimensions=fields.dimensions,
            base64=fields.encoding_format == "base64",
            options=collect_unknown_fields(call.body, _KNOWN_FIELDS),
        )

    def create_renderer(self, call: Call, provenance: Provenance) -> "EmbeddingsRenderer":
        """Create a renderer of a list of `embedding` objects."""
        return EmbeddingsRenderer(call, provenance)

    def parse_usage(self, tail: bytes, streamed: bool) -> Usage | None:
        """Parse the `usage` object."""
        return parse_usage(tail, streamed=False)

    def is_complete(self, tail: bytes) -> bool:
        """Return True: embeddings are never streamed."""
        return True

    def render_interruption(self, error: PenstockError) -> bytes:
        """Render an event with the error, which a client can tell from the incomplete body before it."""
        return render_interruption(error)


class EmbeddingsRenderer(UnstreamedRenderer):
    """Renderer of one list of embeddings."""

    def __init__(self, call: Call, provenance: Provenance) -> None:
        self._base64 = "base64" in call.flags
        self._model = provenance.requested or provenance.model

    def render_error(self, error: PenstockError) -> bytes:
        """Render the error as a body."""
        return render_error(error)

    def render_response(self, response: ModelResponse, provenance: Provenance) -> bytes:
        """Render the list."""
        to_field = _to_base64 if self._base64 else _to_floats
        tokens = response.usage.prompt_tokens if response.usage else 0
        data: list[dict[str, Any]] = [
            {"object": "embedding", "index": index, "embedding": to_field(vector)}
            for index, vector in enumerate(response.vectors)
        ]
        return msgspec.json.encode(
            {
                "object": "list",
                "data": data,
                "model": self._model,
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            }
        )


def _to_base64(vector: tuple[float, ...] | str) -> str:
    if isinstance(vector, str):
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _to_floats(vector: tuple[float, ...] | str) -> tuple[float, ...]:
    if not isinstance(vector, str):
        return vector
    try:
        data = base64.b64decode(vector, validate=True)
        return struct.unpack(f"<{len(data) // 4}f", data)
    except (ValueError, struct.error):
        raise UpstreamGarbage("The server sent an embedding that is not base64 of float32 numbers.") from None
