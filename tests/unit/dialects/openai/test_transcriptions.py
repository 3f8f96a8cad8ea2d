"""Transcriptions: the form is parsed for its model and otherwise passed through."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.dialects.openai.transcriptions import TranscriptionsEndpoint
from penstock.domain.errors import InvalidRequest, Unsupported

AUDIO = TranscriptionsEndpoint()
TYPE = b"multipart/form-data; boundary=XX"


def field(name: str, value: bytes, quote: str = '"') -> bytes:
    return b"--XX\r\nContent-Disposition: form-data; name=%b\r\n\r\n%b\r\n" % (f"{quote}{name}{quote}".encode(), value)


SOUND = b'--XX\r\nContent-Disposition: form-data; name="file"; filename="name=model.wav"\r\n\r\nRIFF\x00\xff\r\n'
END = b"--XX--\r\n"


def test_the_model_is_read_from_the_form() -> None:
    body = SOUND + field("model", b"whisper") + END
    call = AUDIO.parse_request(body, TYPE)
    assert (call.wire, call.model, call.stream) == ("openai.transcriptions", "whisper", False)
    assert call.body is body


@pytest.mark.parametrize("quote", ['"', ""])
@pytest.mark.parametrize("first", [True, False])
def test_the_order_and_quotes_of_fields_do_not_matter(quote: str, first: bool) -> None:
    model = field("model", b"whisper", quote)
    assert AUDIO.parse_request((model + SOUND if first else SOUND + model) + END, TYPE).model == "whisper"


@pytest.mark.parametrize("content_type", [TYPE, b'Multipart/Form-Data; charset=utf-8; boundary="XX"', TYPE + b"; x=1"])
def test_the_boundary_is_found(content_type: bytes) -> None:
    assert AUDIO.parse_request(SOUND + field("model", b"w") + END, content_type).model == "w"


@pytest.mark.parametrize(("value", "stream"), [(b"true", True), (b"True", True), (b"1", True), (b"false", False)])
def test_stream_is_read(value: bytes, stream: bool) -> None:
    assert AUDIO.parse_request(SOUND + field("stream", value) + END, TYPE).stream is stream


def test_a_missing_model_is_an_empty_name() -> None:
    assert AUDIO.parse_request(SOUND + END, TYPE).model == ""


@pytest.mark.parametrize(
    ("body", "content_type", "words"),
    [
        (SOUND + END, b"application/json", "multipart/form-data"),
        (SOUND + END, b"multipart/form-data", "boundary"),
        (SOUND + END, b"", "multipart/form-data"),
        (b"", TYPE, "does not start with the boundary"),
        (b"{}", TYPE, "does not start with the boundary"),
        (b"--YY\r\n", TYPE, "does not start with the boundary"),
        (SOUND, TYPE, "incomplete"),
        (SOUND + field("model", b"w"), TYPE, "incomplete"),
        (field("model", b"w") + END, TYPE, "`file` is missing"),
    ],
)
def test_a_bad_form_is_refused(body: bytes, content_type: bytes, words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        AUDIO.parse_request(body, content_type)
    assert words in caught.value.message


def test_audio_that_contains_a_model_field_is_not_parsed() -> None:
    sound = SOUND.replace(b"RIFF", b'RIFF\r\nContent-Disposition: form-data; name="model"\r\n\r\nfalse\r\n')
    assert AUDIO.parse_request(sound + field("model", b"true") + END, TYPE).model == "true"


@given(st.binary(max_size=200))
def test_any_bytes_are_a_form_or_an_error(body: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        assert AUDIO.parse_request(b"--XX\r\n" + body, TYPE).wire == "openai.transcriptions"


def test_a_transcription_is_never_translated() -> None:
    with pytest.raises(Unsupported):
        AUDIO.decode_content(AUDIO.parse_request(SOUND + END, TYPE))
