"""`/v1/audio/transcriptions`: a form with a sound in it, which only passes through."""

import re
from collections.abc import Iterator
from typing import ClassVar, NoReturn

from penstock.dialects.openai.errors import error_event, render_error_event
from penstock.dialects.openai.usage import find_usage
from penstock.domain.errors import InvalidRequest, PenstockError, Unsupported
from penstock.domain.request import Call, Operation
from penstock.domain.response import Chunk, ModelResponse, Usage
from penstock.domain.response_metadata import Provenance

_BOUNDARY = re.compile(rb'boundary=(?:"([^"\r\n]{1,200})"|([^\s;"]{1,200}))', re.IGNORECASE)
_NAME = re.compile(rb'content-disposition:[^\r\n]*?[;\s]name="?([^";\r\n]*)"?', re.IGNORECASE)
_LONGEST = 1024  # bytes of a value that is read here


class TranscriptionsEndpoint:
    """The transcriptions wire: routed by the form's `model`; no engine is asked for it in other words."""

    wire: ClassVar[str] = "openai.transcriptions"
    method: ClassVar[str] = "POST"
    paths: ClassVar[tuple[str, ...]] = ("/v1/audio/transcriptions",)

    def parse_request(self, body: bytes, content_type: bytes) -> Call:
        """The form's short fields; the sound is only seen to be there."""
        fields = dict(_fields(body, content_type))
        if "file" not in fields:
            raise InvalidRequest("`file` is missing: it is required.", param="file")
        stream = fields.get("stream", b"").lower() in {b"true", b"1"}
        model = fields.get("model", b"").decode("utf-8", "replace")
        return Call("openai.transcriptions", Operation.COMPLETION, model, stream, body)

    def decode_content(self, call: Call) -> NoReturn:
        """Not translated."""
        raise Unsupported("Sound is transcribed only by servers that speak OpenAI's API: name a model on one of them.")

    def create_renderer(self, call: Call, provenance: Provenance) -> "TranscriptionRenderer":
        """Draws what never comes to be drawn."""
        return TranscriptionRenderer()

    def parse_usage(self, tail: bytes, streamed: bool) -> Usage | None:
        """From the last `parse_usage` object."""
        return find_usage(tail)

    def is_complete(self, tail: bytes) -> bool:
        """Servers end these streams in several ways: closing them is enough."""
        return True

    def render_interruption(self, error: PenstockError) -> bytes:
        """An event with the error."""
        return render_error_event(error)


class TranscriptionRenderer:
    """Draws errors; text comes only from engines whose bytes pass through."""

    @property
    def content_type(self) -> bytes:
        """JSON."""
        return b"application/json"

    def render_chunk(self, chunk: Chunk) -> bytes:
        """Nothing."""
        return b""

    def render_end(self) -> bytes:
        """Nothing."""
        return b""

    def render_error(self, error: PenstockError) -> bytes:
        """An event with the error."""
        return error_event(error)

    def render_response(self, answer: ModelResponse, provenance: Provenance) -> bytes:
        """Nothing."""
        return b""


def _fields(body: bytes, content_type: bytes) -> Iterator[tuple[str, bytes]]:
    """Names and values (of long ones the beginning) of a form's parts."""
    match = _BOUNDARY.search(content_type)
    if not content_type.lower().startswith(b"multipart/form-data") or match is None:
        raise InvalidRequest("The body must be multipart/form-data with a boundary.")
    delimiter = b"--" + (match[1] or match[2])
    if not body.startswith(delimiter + b"\r\n"):
        raise InvalidRequest("The body is not the form that its Content-Type announces: it must begin with a boundary.")
    start = len(delimiter) + 2
    while (end := body.find(b"\r\n" + delimiter, start - 2)) >= 0:
        split = body.find(b"\r\n\r\n", start, end)
        name = _NAME.search(body, start, split) if split >= 0 else None
        if name is not None:
            yield name[1].decode("utf-8", "replace"), body[split + 4 : min(end, split + 4 + _LONGEST)].strip()
        if body.startswith(b"--", end + 2 + len(delimiter)):
            return
        start = end + len(delimiter) + 4
    raise InvalidRequest("The form is cut off: its last boundary is missing.")
