"""Responses of the MLX API server, read by its engine."""

import pytest

from penstock.domain.content import Chat
from penstock.domain.errors import UpstreamCut, UpstreamError, UpstreamGarbage
from penstock.domain.request import Call, Operation
from penstock.domain.response import Chunk
from penstock.engines.base import EngineRequest
from penstock.engines.mlx.engine import ENGINE

ASKED = Call("openai.chat", Operation.CHAT, "x", True, b"{}")


def read_chunks(*pieces: bytes, streamed: bool = True) -> list[Chunk]:
    reader = ENGINE.create_reader(ASKED, Chat(()), EngineRequest("/api/generate", stream=streamed))
    return [chunk for piece in pieces for chunk in reader.feed(piece)] + list(reader.close())


STREAM = (
    '{"model": "m", "response": "Hé", "done": false}\n{"model": "m", "response": "llo", "done": false}\n'
    '{"model": "m", "response": "", "done": true}\n'
).encode()


def test_lines_are_read_however_they_are_split():
    expected = read_chunks(STREAM)
    assert [chunk.text for chunk in expected] == ["Hé", "llo", ""]
    assert (expected[-1].finish, expected[-1].usage) == ("stop", None)
    for cut in range(len(STREAM)):
        assert read_chunks(STREAM[:cut], STREAM[cut:]) == expected


def test_one_body_and_a_chats_message_are_read():
    assert read_chunks(b'{"model":"m","response":"Hi","done":true}', streamed=False) == [Chunk("Hi", finish="stop")]
    message = b'{"model":"m","message":{"role":"assistant","content":"Hi"},"done":true}'
    assert read_chunks(message, streamed=False) == [Chunk("Hi", finish="stop")]


def test_a_stream_that_ends_early_or_has_an_error_fails():
    with pytest.raises(UpstreamCut, match="MLX API server"):
        read_chunks(STREAM[:60])
    with pytest.raises(UpstreamError, match="out of memory"):
        read_chunks(b'{"error": "out of memory"}\n')
    with pytest.raises(UpstreamGarbage):
        read_chunks(b"<html>\n")
