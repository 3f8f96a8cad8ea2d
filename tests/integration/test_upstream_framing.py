"""Engines frame answers in every way that HTTP/1.x allows, in TCP pieces of any size: clients get the same response."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.gateway import RunningGateway, run_gateway, server_settings
from tests.support.raw_client import Answer, chat, post
from tests.support.raw_engine import (
    DONE,
    END,
    RawEngine,
    chunk,
    chunked_head,
    completion,
    event,
    ollama_lines,
    pieces_of,
    remove_chunk_framing,
    response,
    send_pieces,
    send_pieces_then,
    stream,
    stream_events,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")
WORDS = ("Hel", "lo, ", "wörld", " 🙂", "!")
TEXT = "".join(WORDS)
ANSWER = completion(TEXT)
EVENTS = b"".join(stream_events(*WORDS))


@dataclass
class Pair:
    """A gateway and the engine behind it."""

    engine: RawEngine
    gateway: RunningGateway

    async def request_response(self, path: str = "/v1/chat/completions") -> Answer:
        return await self.gateway.send_request(post(path, chat()))

    async def request_stream(self, path: str = "/v1/chat/completions", **more) -> Answer:
        return await self.gateway.send_request(post(path, chat(stream=True), **more))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def openai() -> AsyncIterator[Pair]:
    async with RawEngine(send_pieces()) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        yield Pair(engine, gateway)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ollama() -> AsyncIterator[Pair]:
    async with RawEngine(send_pieces()) as engine, run_gateway(server_settings("a", engine.url, "ollama")) as gateway:
        yield Pair(engine, gateway)


def head(*lines: str, version: str = "1.1") -> bytes:
    return "\r\n".join((f"HTTP/{version} 200 OK", "Content-Type: application/json", *lines)).encode() + b"\r\n\r\n"


def chunks(data: bytes, size: int = 7) -> bytes:
    return b"".join(chunk(data[at : at + size]) for at in range(0, len(data), size)) + END


UNSTREAMED = {
    "with its length": send_pieces(response(ANSWER)),
    "with length zero-padded": send_pieces(head(f"Content-Length: 000{len(ANSWER)}") + ANSWER),
    "chunked": send_pieces(head("Transfer-Encoding: chunked") + chunks(ANSWER)),
    "chunked, coding in capitals": send_pieces(head("TRANSFER-ENCODING: Chunked") + chunks(ANSWER)),
    "chunked with extensions": send_pieces(
        head("Transfer-Encoding: chunked") + b'5;a=b;c="d e"\r\n' + ANSWER[:5] + b"\r\n" + chunk(ANSWER[5:]) + END
    ),
    "chunked with trailers": send_pieces(
        head("Transfer-Encoding: chunked") + chunk(ANSWER) + b"0\r\nX-Took: 5\r\nServer-Timing: a;dur=1\r\n\r\n"
    ),
    "until the connection closes": send_pieces_then("close", head() + ANSWER),
    "until the engine half-closes": send_pieces_then("half_close", head() + ANSWER),
    "in HTTP/1.0": send_pieces_then("close", head(version="1.0") + ANSWER),
    "in HTTP/1.0 with a length": send_pieces_then(
        "close", head(f"Content-Length: {len(ANSWER)}", version="1.0") + ANSWER
    ),
    "in HTTP/1.0, kept alive": send_pieces(
        head(f"Content-Length: {len(ANSWER)}", "Connection: keep-alive", version="1.0") + ANSWER
    ),
    "identity coding, until it closes": send_pieces_then("close", head("Transfer-Encoding: identity") + ANSWER),
    "with Connection: close": send_pieces_then("close", response(ANSWER, headers=("Connection: close",))),
    "with Connection: close, left open": send_pieces(response(ANSWER, headers=("Connection: close",))),
    "after 100 Continue": send_pieces(b"HTTP/1.1 100 Continue\r\n\r\n" + response(ANSWER)),
    "after 100 Continue in a piece of its own": send_pieces(b"HTTP/1.1 100 Continue\r\n\r\n", response(ANSWER)),
    "after 102 and 103": send_pieces(
        b"HTTP/1.1 102 Processing\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + response(ANSWER)
    ),
    "after empty lines": send_pieces(b"\r\n\r\n" + response(ANSWER)),
    "without a reason phrase": send_pieces(response(ANSWER, status="200")),
    "with an unrequested Upgrade": send_pieces(response(ANSWER, headers=("Upgrade: h2", "Connection: upgrade"))),
    "with 300 headers": send_pieces(response(ANSWER, headers=tuple(f"X-{i}: {'y' * 100}" for i in range(300)))),
    "byte by byte": send_pieces(*(bytes((one,)) for one in response(ANSWER))),
}


@pytest.mark.parametrize("how", UNSTREAMED)
async def test_an_unstreamed_response_reaches_the_client(openai: Pair, how: str):
    openai.engine.script = UNSTREAMED[how]
    answer = await openai.request_response()
    assert (answer.status, answer.body) == (200, ANSWER)
    assert answer.headers["content-length"] == str(len(ANSWER))
    again = await openai.request_response()  # what the first left behind does the next no harm
    assert again.body == ANSWER


SSE = chunked_head()
PLAIN_SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
STREAMS = {
    "an event a chunk": send_pieces(stream(*WORDS)),
    "an event a piece": send_pieces(SSE, *(chunk(one) for one in stream_events(*WORDS)), END),
    "head and first event in one piece": send_pieces(
        SSE + chunk(event(WORDS[0])), *(chunk(one) for one in stream_events(*WORDS)[1:]), END
    ),
    "end with the last event": send_pieces(SSE + chunks(EVENTS, 50)),
    "chunks across events": send_pieces(SSE, *(chunk(EVENTS[at : at + 37]) for at in range(0, len(EVENTS), 37)), END),
    "chunks of one byte": send_pieces(SSE + chunks(EVENTS, 1)),
    "size lines in pieces of their own": send_pieces(
        SSE, *(part for one in stream_events(*WORDS) for part in (b"%x\r\n" % len(one), one, b"\r\n")), END
    ),
    "with chunk extensions": send_pieces(
        SSE, *(b"%x;n=1\r\n%b\r\n" % (len(one), one) for one in stream_events(*WORDS)), END
    ),
    "with trailers": send_pieces(SSE + chunk(EVENTS) + b"0\r\nX-Took: 5\r\n\r\n"),
    "until it closes": send_pieces_then("close", PLAIN_SSE + b"\r\n", EVENTS),
    "until it half-closes": send_pieces_then("half_close", PLAIN_SSE + b"\r\n", EVENTS),
    "in HTTP/1.0, event by event": send_pieces_then(
        "close", PLAIN_SSE.replace(b"1.1", b"1.0") + b"\r\n", *stream_events(*WORDS)
    ),
    "with a length": send_pieces(PLAIN_SSE + b"Content-Length: %d\r\n\r\n" % len(EVENTS), EVENTS[:99], EVENTS[99:]),
    "after 100 Continue": send_pieces(b"HTTP/1.1 100 Continue\r\n\r\n" + stream(*WORDS)),
    "after empty lines": send_pieces(b"\r\n\r\n" + stream(*WORDS)),
    "with a comment first": send_pieces(SSE + chunk(b": keepalive\n\n" + EVENTS) + END),
    "with Connection: close": send_pieces_then(
        "close", chunked_head(headers=("Connection: close",)) + chunks(EVENTS, 64)
    ),
    "byte by byte": send_pieces(*(bytes((one,)) for one in stream(*WORDS))),
}


@pytest.mark.parametrize("how", STREAMS)
@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_a_stream_reaches_the_client(openai: Pair, how: str, version: str):
    openai.engine.script = STREAMS[how]
    answer = await openai.request_stream(version=version)
    assert answer.status == 200
    assert answer.body.removeprefix(b": keepalive\n\n") == EVENTS
    assert answer.text == TEXT
    assert answer.headers.get("transfer-encoding") == ("chunked" if version == "1.1" else None)
    again = await openai.request_stream()
    assert again.text == TEXT


@pytest.mark.parametrize("how", STREAMS)
async def test_a_translated_stream_has_the_same_text(openai: Pair, how: str):
    openai.engine.script = STREAMS[how]
    answer = await openai.request_stream("/api/chat")
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert "".join(line["message"]["content"] for line in answer.lines) == TEXT
    assert answer.lines[-1]["done"] is True


cuts = st.lists(st.integers(0, 5000), max_size=12)
split_in_any_way = settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])


@split_in_any_way
@given(cuts=cuts, framing=st.sampled_from([response(ANSWER), head("Transfer-Encoding: chunked") + chunks(ANSWER)]))
async def test_any_split_of_an_unstreamed_response_gives_the_same_body(openai: Pair, cuts: list[int], framing: bytes):
    openai.engine.script = send_pieces(*pieces_of(framing, cuts))
    assert (await openai.request_response()).body == ANSWER


@split_in_any_way
@given(cuts=cuts, size=st.integers(1, 400))
async def test_any_split_of_a_passed_through_stream_gives_the_same_body(openai: Pair, cuts: list[int], size: int):
    openai.engine.script = send_pieces(*pieces_of(SSE + chunks(EVENTS, size), cuts))
    assert (await openai.request_stream()).body == EVENTS


@split_in_any_way
@given(cuts=cuts, size=st.integers(1, 400))
async def test_any_split_of_a_translated_stream_gives_the_same_text(openai: Pair, cuts: list[int], size: int):
    openai.engine.script = send_pieces(*pieces_of(SSE + chunks(EVENTS, size), cuts))
    lines = (await openai.request_stream("/api/chat")).lines
    assert "".join(line["message"]["content"] for line in lines) == TEXT


@split_in_any_way
@given(cuts=cuts, size=st.integers(1, 400), words=st.lists(st.text(max_size=20), max_size=6))
async def test_any_split_of_an_ollama_stream_gives_the_same_lines(
    ollama: Pair, cuts: list[int], size: int, words: list[str]
):
    lines = b"".join(ollama_lines(*words))
    ollama.engine.script = send_pieces(*pieces_of(chunked_head("application/x-ndjson") + chunks(lines, size), cuts))
    assert (await ollama.request_stream("/api/chat")).body == lines
    assert (await ollama.request_stream()).text == "".join(words)


@pytest.mark.parametrize("body", [response(ANSWER), stream(*WORDS)], ids=["response", "stream"])
async def test_a_head_may_be_split_anywhere(openai: Pair, body: bytes):
    is_stream = b"event-stream" in body
    expected = EVENTS if is_stream else ANSWER
    for at in range(1, body.index(b"\r\n\r\n") + 6):
        openai.engine.script = send_pieces(body[:at], body[at:])
        answer = await (openai.request_stream() if is_stream else openai.request_response())
        assert answer.body == expected, f"split after {body[:at]!r}"


async def test_the_first_event_reaches_the_client_before_the_second_is_sent(openai: Pair):
    go_on = asyncio.Event()

    async def script(turn):
        await turn.send(SSE + chunk(event("first")))
        await go_on.wait()
        await turn.send(chunk(event("second")) + chunk(DONE) + END)

    openai.engine.script = script
    client = await openai.gateway.connect_client()
    await client.send(post("/v1/chat/completions", chat(stream=True)))
    while b"first" not in client.received:
        await client.receive()
    go_on.set()
    assert (await client.read_answer()).text == "firstsecond"


async def test_a_stream_is_passed_on_as_the_engine_frames_it(openai: Pair):
    openai.engine.script = send_pieces(stream(*WORDS))
    client = await openai.gateway.connect_client()
    await client.send(post("/v1/chat/completions", chat(stream=True)))
    while not client.received.endswith(END):
        await client.receive()
    framed = client.received.partition(b"\r\n\r\n")[2]
    assert framed == stream(*WORDS).partition(b"\r\n\r\n")[2]
    assert remove_chunk_framing(framed) == EVENTS


async def test_the_engine_gets_the_body_as_the_client_sent_it(openai: Pair):
    openai.engine.script = send_pieces(response(ANSWER))
    body = b'{ "model":"m",  "messages":[{"role":"user","content":"\\u0416"}] , "x":1.50 }'
    await openai.gateway.send_request(post("/v1/chat/completions", body))
    asked = openai.engine.requests[-1]
    assert asked.body == body
    assert asked.headers["content-type"] == "application/json"
    assert asked.headers["host"] == f"127.0.0.1:{openai.engine.port}"
    assert asked.headers["x-request-id"]
