"""Relays: the client gets the same response, passed through or translated, whatever pieces it comes in."""

import asyncio

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import dialects, engines
from penstock.domain.errors import ClientStalled, PenstockError, UpstreamCut, UpstreamGarbage
from penstock.domain.fleet import Model
from penstock.domain.provenance import Provenance
from penstock.gateway.request_context import RequestContext
from penstock.gateway.upstream.provenance import Origin
from penstock.gateway.upstream.relay.base import MAX_ERROR_BYTES, Relay
from penstock.gateway.upstream.relay.factory import create_passthrough_relay, create_translating_relay
from tests.support.raw_client import chat
from tests.support.raw_engine import (
    END,
    chunk,
    chunked_head,
    completion,
    event,
    pieces_of,
    response,
    stream_events,
)
from tests.unit.gateway.recording_client import RecordingClient
from tests.unit.gateway.upstream.connection_bench import ConnectionBench

ENGINES = engines.load()
ENDPOINTS = {endpoint.wire: endpoint for dialect in dialects.load() for endpoint in dialect.endpoints}
WORDS = ("Hel", "lo ", "wörld 🙂", "\n", '"quoted"')
TEXT = "".join(WORDS)
EVENTS = b"".join(stream_events(*WORDS))
cuts = st.lists(st.integers(0, 5000), max_size=15)


def create_relay(wire: str, client: RecordingClient, *, stream: bool, kind: str = "vllm") -> Relay:
    """Create a relay for a chat in this wire, answered by a server of this kind."""
    endpoint, engine, loop = ENDPOINTS[wire], ENGINES[kind], asyncio.new_event_loop()
    loop.close()  # only its clock is looked at
    body = chat(stream=stream, max_tokens=9)
    if wire == "openai.responses":
        body = {"model": "m", "input": "hi", "stream": stream}
    ctx = RequestContext(client, endpoint, 0.0)
    call = ctx.call = endpoint.parse_request(msgspec.json.encode(body), b"application/json")
    if wire in engine.native_paths:
        relay = create_passthrough_relay(ctx, b"")
        relay.engine = engine
        return relay
    content = endpoint.decode_content(call)
    reader = engine.create_reader(call, content, engine.translate_request(call, content, Model("m")))
    return create_translating_relay(ctx, Origin(b"", Provenance("r-1", model="m")), reader, loop)


def feed(one: Relay, *pieces: bytes, lost: bool = False) -> Relay:
    """Feed a relay with a server's bytes; `lost`: the connection breaks afterwards."""
    bench = ConnectionBench()
    one.connection = bench.connection
    bench.connection.send_request(b"", one, 10.0, 10.0)
    bench.receive(*pieces)
    if lost and not one.is_settled:
        bench.lose_connection()
    return one


@given(cuts, st.integers(1, 300), st.booleans())
def test_a_stream_passes_through_unchanged_however_it_comes(at, size, http11):
    client = RecordingClient(accepts_chunked=http11)
    framed = b"".join(chunk(EVENTS[n : n + size]) for n in range(0, len(EVENTS), size)) + END
    done = feed(create_relay("openai.chat", client, stream=True), *pieces_of(chunked_head() + framed, at))
    assert (done.is_settled, done.value) == (True, None)
    assert (client.body, client.ended, client.content_type) == (EVENTS, "finished", b"text/event-stream")


@given(cuts, st.integers(1, 300), st.sampled_from(["ollama.chat", "anthropic.messages", "openai.responses"]))
def test_a_translated_stream_is_the_same_however_it_comes(at, size, wire):
    framed = b"".join(chunk(EVENTS[n : n + size]) for n in range(0, len(EVENTS), size)) + END
    texts = []
    for pieces in ([chunked_head() + framed], pieces_of(chunked_head() + framed, at)):
        client = RecordingClient()
        done = feed(create_relay(wire, client, stream=True), *pieces)
        assert done.value is None
        assert client.ended == "finished"
        texts.append(_join_text(wire, client.body))
    assert texts[0] == texts[1] == TEXT


def _join_text(wire: str, body: bytes) -> str:
    if wire == "ollama.chat":
        return "".join(msgspec.json.decode(line)["message"]["content"] for line in body.splitlines())
    events = [msgspec.json.decode(line[5:]) for line in body.splitlines() if line.startswith(b"data:")]
    if wire == "anthropic.messages":
        return "".join(one["delta"].get("text", "") for one in events if one["type"] == "content_block_delta")
    return "".join(one["delta"] for one in events if one["type"] == "response.output_text.delta")


@given(cuts)
def test_an_unstreamed_response_passes_through_unchanged_however_it_comes(at):
    client = RecordingClient()
    done = feed(create_relay("openai.chat", client, stream=False), *pieces_of(response(completion(TEXT)), at))
    assert done.value is None
    assert (client.body, client.ended, client.status) == (completion(TEXT), "complete", 200)
    assert done.usage is not None
    assert (done.usage.prompt_tokens, done.usage.completion_tokens) == (3, 2)


@given(st.integers(0, 3000), cuts, st.booleans(), st.sampled_from(["openai.chat", "ollama.chat", "anthropic.messages"]))
def test_a_stream_cut_anywhere_is_an_error_before_its_first_byte_or_its_last_event(cut, at, http11, wire):
    framed = chunked_head() + b"".join(map(chunk, stream_events(*WORDS))) + END
    cut = min(cut, len(framed) - 1)
    client = RecordingClient(accepts_chunked=http11)
    done = feed(create_relay(wire, client, stream=True), *pieces_of(framed[:cut], at), lost=True)
    assert isinstance(done.value, PenstockError)
    if not client.response_started:
        assert client.ended == ""
        return
    assert client.ended == "finished"
    lines = [line.removeprefix(b"data:").strip() for line in client.body.splitlines() if line[:1] in (b"{", b"d")]
    last_line = msgspec.json.decode(lines[-1])
    assert "error" in last_line
    for line in lines[:-1]:  # nothing that the client is given is half an event
        assert line == b"[DONE]" or msgspec.json.decode(line)
    assert client.keep_alive == (wire != "openai.chat")


@given(st.binary(min_size=1, max_size=300).filter(lambda data: data[:1] not in b"d:eir\r\n{["), cuts)
def test_an_invalid_response_reaches_no_client(noise, at):
    for stream, framed in ((True, chunked_head() + chunk(noise) + END), (False, response(noise))):
        client = RecordingClient()
        done = feed(create_relay("openai.chat", client, stream=stream), *pieces_of(framed, at))
        assert isinstance(done.value, UpstreamGarbage)
        assert not client.response_started


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_is_kept_for_the_engine_to_read(status: int, stream: bool):
    client = RecordingClient()
    body = b'{"error":{"message":"no"}}'
    done = feed(
        create_relay("openai.chat", client, stream=stream),
        response(body, status=f"{status} No", headers=("Retry-After: 2.5",)),
    )
    assert (done.is_settled, done.value) == (True, None)
    assert (done.status, done.error_body, done.retry_after) == (status, body, 2.5)
    assert not client.response_started


def test_a_retry_after_may_be_a_date():
    headers = ("Retry-After: Wed, 21 Oct 2026 07:28:30 GMT", "Date: Wed, 21 Oct 2026 07:28:00 GMT")
    answer = response(b"{}", status="503 No", headers=headers)
    assert feed(create_relay("openai.chat", RecordingClient(), stream=False), answer).retry_after == 30.0
    far_date = response(b"{}", status="503 No", headers=("Retry-After: Wed, 21 Oct 2099 07:28:30 GMT",))
    assert feed(create_relay("openai.chat", RecordingClient(), stream=False), far_date).retry_after == 86400.0


@pytest.mark.parametrize("value", ["Wed, 21 Oct 2020 07:28:00 GMT", "soon", "", "-5", "nan", "inf", "Wed, 99 Oct"])
def test_a_retry_after_that_is_no_time_to_come_counts_as_none(value: str):
    done = feed(
        create_relay("openai.chat", RecordingClient(), stream=False),
        response(b"{}", status="503 No", headers=(f"Retry-After: {value}",)),
    )
    assert not done.retry_after


def test_a_huge_error_is_truncated():
    error = response(b"x" * 10_000_000, status="500 No")
    done = feed(create_relay("openai.chat", RecordingClient(), stream=False), error)
    assert len(done.error_body) <= 10_000_000
    many = feed(
        create_relay("openai.chat", RecordingClient(), stream=False),
        *pieces_of(response(b"x" * 500_000, status="500 No"), range(0, 500_000, 1000)),
    )
    assert len(many.error_body) < 70_000


def test_a_client_that_stopped_reading_is_cut_and_not_written_to():
    client = RecordingClient()
    one = create_relay("openai.chat", client, stream=True)
    feed(one, chunked_head() + chunk(event("a")))
    given = client.body
    one.on_failure(ClientStalled("it reads no more"))
    assert (client.ended, client.body) == ("aborted", given)
    assert isinstance(one.value, ClientStalled)


def test_a_stream_that_ends_by_closing_needs_its_end_marker():
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    client = RecordingClient()
    assert feed(create_relay("openai.chat", client, stream=True), head + EVENTS, lost=True).value is None
    assert client.body == EVENTS
    client = RecordingClient()
    done = feed(create_relay("openai.chat", client, stream=True), head + event("a"), lost=True)
    assert isinstance(done.value, UpstreamCut)
    assert b"error" in client.body


def test_an_endless_error_body_in_single_bytes_is_cut_at_the_limit_in_linear_time() -> None:
    relay = create_relay("openai.chat", RecordingClient(), stream=False)
    relay.on_head(500, {})
    for _ in range(5 * MAX_ERROR_BYTES):  # quadratic time would take minutes
        relay.on_body(b"x")
    relay.on_end(True)
    assert len(relay.error_body) == MAX_ERROR_BYTES
