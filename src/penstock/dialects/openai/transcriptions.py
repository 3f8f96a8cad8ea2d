"""`/v1/audio/transcriptions`: a form with audio, which is only passed through."""

import re
from collections.abc import Iterator
from typing import ClassVar, NoReturn

from penstock.dialects.base import UnstreamedRenderer
from penstock.dialects.openai.errors import render_error_event, render_interruption
from penstock.dialects.openai.usage import find_usage
from penstock.domain.errors import InvalidRequest, PenstockError, Unsupported
from penstock.domain.provenance import Provenance
from penstock.domain.request import Call, Operation
from penstock.domain.response import ModelResponse, Usage

_BOUNDARY = re.compile(rb'boundary=(?:"([^"\r\n]{1,200})"|([^\s;"]{1,200}))', re.IGNORECASE)
_NAME = re.compile(rb'content-disposition:[^\r\n]*?[;\s]name="?([^";\r\n]*)"?', re.IGNORECASE)
_MAX_VALUE = 1024  # bytes of a field that are read


class TranscriptionsEndpoint:
    """The transcriptions wire: routed by the form's `model`, never translated."""

    wire: ClassVar[str] = "openai.transcriptions"
    method: ClassVar[str] = "POST"
    paths: ClassVar[tuple[str, ...]] = ("/v1/audio/transcriptions",)

    def parse_request(self, body: bytes, content_type: bytes) -> Call:
        """Parse the form's short fields. `file` is only checked to exist."""
        fields = dict(_iterate_fields(body, content_type))
        if "file" not in fields:
            raise InvalidRequest("`file` is missing. Add this required field.", param="file")
        stream = fields.get("stream", b"").lower() in {b"true", b"1"}
        model = fields.get("model", b"").decode("utf-8", "replace")
        return Call("openai.transcriptions", Operation.COMPLETION, model, stream, body)

    def decode_content(self, call: Call) -> NoReturn:
        """Raise Unsupported: transcriptions are not translated."""
        raise Unsupported(
            "Only servers with OpenAI's API can transcribe audio. Name a model on one of them in `model`."
        )

    def create_renderer(self, call: Call, provenance: Provenance) -> "TranscriptionRenderer":
        """Create a renderer of errors."""
        return TranscriptionRenderer()

    def parse_usage(self, tail: bytes, streamed: bool) -> Usage | None:
        """Parse the last `usage` object."""
        return find_usage(tail)

    def is_complete(self, tail: bytes) -> bool:
        """Return True: servers end these streams in several ways, so closing the connection is enough."""
        return True

    def render_interruption(self, error: PenstockError) -> bytes:
        """Render an event with the error."""
        return render_interruption(error)


class TranscriptionRenderer(UnstreamedRenderer):
    """Renderer of errors only: responses are passed through."""

    def render_error(self, error: PenstockError) -> bytes:
        """Render an event with the error."""
        return render_error_event(error)

    def render_response(self, response: ModelResponse, provenance: Provenance) -> bytes:
        """Return nothing: responses are passed through."""
        return b""


def _iterate_fields(body: bytes, content_type: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the names and values of a form's parts. Long values are cut to `_MAX_VALUE` bytes."""
    match = _BOUNDARY.search(content_type)
    if not content_type.lower().startswith(b"multipart/form-data") or match is None:
        raise InvalidRequest("The body is not a form. Send multipart/form-data with a boundary.")
    delimiter = b"--" + (match[1] or match[2])
    if not body.startswith(delimiter + b"\r\n"):
        raise InvalidRequest("The form does not start with the boundary of its Content-Type. Send the boundary first.")
    start = len(delimiter) + 2
    while (end := body.find(b"\r\n" + delimiter, start - 2)) >= 0:
        split = body.find(b"\r\n\r\n", start, end)
        name = _NAME.search(body, start, split) if split >= 0 else None
        if name is not None:
            yield name[1].decode("utf-8", "replace"), body[split + 4 : min(end, split + 4 + _MAX_VALUE)].strip()
        if body.startswith(b"--", end + 2 + len(delimiter)):
            return
        start = end + len(delimiter) + 4
    raise InvalidRequest("The form is incomplete: the last boundary is missing. Send the complete form.")
