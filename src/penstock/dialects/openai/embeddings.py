"""`/v1/embeddings`: texts to vectors."""

import base64
import struct
from typing import Any, ClassVar

import msgspec

from penstock.dialects.openai.chat_request import IDLE, leftovers
from penstock.dialects.openai.errors import error_object, render_error_event
from penstock.dialects.openai.usage import encode, read_body, read_inputs, whole_usage
from penstock.domain.content import Content, Embedding
from penstock.domain.errors import InvalidRequest, PenstockError, UpstreamGarbage
from penstock.domain.request import Call, Operation
from penstock.domain.response import Chunk, ModelResponse, Usage
from penstock.domain.response_metadata import Provenance


class _Head(msgspec.Struct):
    input: msgspec.Raw
    model: str | None = None
    encoding_format: str | None = None


class _Fields(msgspec.Struct):
    input: str | list[str | int | list[int]]
    encoding_format: str | None = None
    dimensions: int | None = None


_head = msgspec.json.Decoder(_Head)
_fields = msgspec.json.Decoder(_Fields)
_known = IDLE.union(_Fields.__struct_fields__)
_NO_FLAGS: frozenset[str] = frozenset()
_BASE64 = frozenset({"base64"})


class EmbeddingsEndpoint:
    """The embeddings wire. Flag: `base64` when vectors are wanted so, as the official clients do."""

    wire: ClassVar[str] = "openai.embeddings"
    method: ClassVar[str] = "POST"
    paths: ClassVar[tuple[str, ...]] = ("/v1/embeddings",)

    def parse_request(self, body: bytes, content_type: bytes) -> Call:
        """One pass over the body."""
        head = read_body(_head, body)
        if head.encoding_format not in {None, "float", "base64"}:
            raise InvalidRequest("`encoding_format` must be float or base64.", param="encoding_format")
        flags = _BASE64 if head.encoding_format == "base64" else _NO_FLAGS
        return Call("openai.embeddings", Operation.EMBEDDING, head.model or "", False, body, flags=flags)

    def decode_content(self, call: Call) -> Content:
        """The texts, or lists of tokens."""
        fields = read_body(_fields, call.body)
        return Embedding(
            inputs=read_inputs(fields.input, "input"),
            dimensions=fields.dimensions,
            base64=fields.encoding_format == "base64",
            options=leftovers(call.body, _known),
        )

    def create_renderer(self, call: Call, provenance: Provenance) -> "EmbeddingsRenderer":
        """Draws a list of `embedding` objects."""
        return EmbeddingsRenderer(call, provenance)

    def parse_usage(self, tail: bytes, streamed: bool) -> Usage | None:
        """From the last `parse_usage` object."""
        return whole_usage(tail)

    def is_complete(self, tail: bytes) -> bool:
        """Embeddings are never streamed."""
        return True

    def render_interruption(self, error: PenstockError) -> bytes:
        """Embeddings are never streamed; what comes after half a body can only be told apart."""
        return render_error_event(error)


class EmbeddingsRenderer:
    """One answer of embeddings, always whole."""

    def __init__(self, call: Call, provenance: Provenance) -> None:
        self._base64 = "base64" in call.flags
        self._model = provenance.requested or provenance.model

    @property
    def content_type(self) -> bytes:
        """JSON."""
        return b"application/json"

    def render_chunk(self, chunk: Chunk) -> bytes:
        """Nothing: the whole comes at once."""
        return b""

    def render_end(self) -> bytes:
        """Nothing."""
        return b""

    def render_error(self, error: PenstockError) -> bytes:
        """The error as a body."""
        return error_object(error)

    def render_response(self, answer: ModelResponse, provenance: Provenance) -> bytes:
        """The list."""
        draw = _to_base64 if self._base64 else _to_floats
        tokens = answer.usage.prompt_tokens if answer.usage else 0
        data: list[dict[str, Any]] = [
            {"object": "embedding", "index": index, "embedding": draw(vector)}
            for index, vector in enumerate(answer.vectors)
        ]
        return encode(
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
        raise UpstreamGarbage("The engine sent a vector that is no base64 of float32.") from None
