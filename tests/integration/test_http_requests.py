"""Requests in any pieces, pipelined and mixed, and their responses."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.chat_endpoints import CHAT_ENDPOINTS
from tests.support.gateway import RunningGateway, run_gateway, server_settings, wait_until
from tests.support.raw_client import RawClient, chat, get, open_client, post, run_event_loop
from tests.support.raw_engine import (
    RawEngine,
    Turn,
    chunk,
    chunked_head,
    completion,
    event,
    pieces_of,
    response,
    send_pieces,
    send_pieces_then,
    stream,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")
CHAT = post("/v1/chat/completions", chat())
STREAM = post("/v1/chat/completions", chat(stream=True))


async def echo(turn: Turn) -> None:
    """Answer with the text of the user, streamed on request."""
    asked = turn.request.json
    text = asked["messages"][-1]["content"]
    await turn.send(stream(*text.split(" ")) if asked.get("stream") else response(completion(text)))


def chat_with(text: str, **more) -> bytes:
    return post("/v1/chat/completions", chat(text, **more))


@dataclass
class Pair:
    engine: RawEngine
    gateway: RunningGateway


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair() -> AsyncIterator[Pair]:
    async with RawEngine(echo) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        yield Pair(engine, gateway)


@pytest.fixture
def gateway(pair: Pair) -> RunningGateway:
    pair.engine.script = echo
    pair.engine.requests.clear()
    return pair.gateway


# One connection, many requests: from the second on the head is known, on both sides of the gateway


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.text(min_size=1, max_size=40), st.integers(0, 3), st.booleans()), min_size=2, max_size=8))
async def test_each_request_of_a_connection_gets_its_own_response(gateway, asked):
    client = await RawClient.connect(gateway.port)
    for text, odd, together in asked:
        text = text.replace(" ", "_")
        more = ((), ("x-more: 1",), ("x-request-id: mine",), ("expect: 100-continue",))[odd]
        request = post("/v1/chat/completions", chat(text), headers=more)
        twice = [request, request] if together else [request]
        await client.send(b"".join(twice))
        for _ in twice:
            answer = await client.read_answer()
            if answer.status == 100:
                answer = await client.read_answer()
            assert (answer.status, answer.json["choices"][0]["message"]["content"]) == (200, text)
            assert (answer.headers["x-request-id"] == "mine") == (odd == 2)
    client.close()
    await wait_until(lambda: not gateway.connections)


async def test_a_repeated_head_with_an_incomplete_body_waits_for_the_rest(gateway):
    async with open_client(gateway.port) as client:
        for text in ("one", "two", "three"):
            request = chat_with(text)
            await client.send(request[:-3], request[-3:])
            assert (await client.read_answer()).text == text


async def test_garbage_after_a_repeated_request_closes_the_connection(gateway):
    async with open_client(gateway.port) as client:
        for text in ("one", "two"):
            await client.send(chat_with(text))
            assert (await client.read_answer()).status == 200
        await client.send(chat_with("three") + b"\x00\x01 nonsense\r\n\r\n")
        assert (await client.read_answer()).text == "three"
        assert await client.read_rest() == b""


# One request in many forms


def post_chunked(body: bytes, sizes: list[int], *, path: str = "/v1/chat/completions", trailer: bytes = b"") -> bytes:
    head = post(path, b"", length=False, headers=("transfer-encoding: chunked",))
    parts = [
        body[start:end] for start, end in itertools.pairwise(sorted({0, len(body), *(s % len(body) for s in sizes)}))
    ]
    return head + b"".join(map(chunk, parts)) + b"0\r\n" + trailer + b"\r\n"


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 600), max_size=10), sizes=st.lists(st.integers(0, 90), max_size=6), data=st.data())
async def test_a_request_may_arrive_in_any_pieces(pair: Pair, cuts: list[int], sizes: list[int], data):
    pair.engine.script = echo
    body = json.dumps(chat("any pieces")).encode()
    request = data.draw(st.sampled_from([chat_with("any pieces"), post_chunked(body, sizes)]))
    async with open_client(pair.gateway.port) as client:
        await client.send(*pieces_of(request, cuts))
        assert (await client.read_answer()).text == "any pieces"


async def test_chunks_may_have_extensions_and_trailers(gateway: RunningGateway):
    body = json.dumps(chat("extended")).encode()
    request = post_chunked(body, [5, 9], trailer=b"X-Checksum: 1\r\n").replace(b"5\r\n", b'5;name="a b";x\r\n', 1)
    answer = await gateway.send_request(request)
    assert answer.text == "extended"


async def test_a_chunked_body_is_forwarded_with_its_length(pair: Pair, gateway: RunningGateway):
    body = json.dumps(chat("counted")).encode()
    await gateway.send_request(post_chunked(body, [3, 30, 33]))
    [asked] = pair.engine.requests
    assert asked.body == body
    assert asked.headers["content-length"] == str(len(body))
    assert "transfer-encoding" not in asked.headers


async def test_a_large_upload_is_forwarded_completely(pair: Pair, gateway: RunningGateway):
    text = "x" * 20_000_000
    pair.engine.script = send_pieces(response(completion("read")))
    assert (await gateway.send_request(chat_with(text), 20)).text == "read"
    assert len(pair.engine.requests[0].body) > 20_000_000


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions?beta=true", "/v1/chat/completions?", "/v1/chat/completions?a=%20&b"]
)
async def test_a_query_does_not_change_the_route(gateway: RunningGateway, path: str):
    assert (await gateway.send_request(post(path, chat("queried")))).text == "queried"


async def test_the_query_of_anthropic_clients_does_not_change_the_route(gateway: RunningGateway):
    answer = await gateway.send_request(post("/v1/messages?beta=true", chat("queried", max_tokens=9)))
    assert answer.json["content"][0]["text"] == "queried"


async def test_empty_lines_before_a_request_are_ignored(gateway: RunningGateway):
    assert (await gateway.send_request(b"\r\n\r\n" + chat_with("after"))).text == "after"


async def test_header_names_are_case_insensitive(gateway: RunningGateway):
    request = chat_with("LOUD").replace(b"content-length", b"CONTENT-LENGTH").replace(b"host", b"HOST")
    assert (await gateway.send_request(request)).text == "LOUD"


@pytest.mark.parametrize("offer", ["Upgrade: h2c", "Upgrade: websocket", "Upgrade: TLS/1.0, x"])
async def test_an_upgrade_header_is_ignored(gateway: RunningGateway, offer: str):
    async with open_client(gateway.port) as client:
        headers = ("connection: Upgrade, HTTP2-Settings", offer, "http2-settings: AAMAAABkAAQAAP__")
        await client.send(post("/v1/chat/completions", chat("one"), headers=headers) + chat_with("two"))
        assert (await client.read_answer()).text == "one"
        assert (await client.read_answer()).text == "two"
        await client.send(chat_with("three"))
        assert (await client.read_answer()).text == "three"


async def test_expect_100_continue_is_answered_before_the_body_is_sent(gateway: RunningGateway):
    head, body = chat_with("waited", stream=True).split(b"\r\n\r\n", 1)
    async with open_client(gateway.port) as client:
        await client.send(head + b"\r\nexpect: 100-continue\r\n\r\n")
        assert (await client.read_answer()).status == 100
        assert await client.is_silent()
        await client.send(body)
        assert (await client.read_answer()).text == "waited"


async def test_expect_100_continue_of_a_rejected_request_is_not_answered(gateway: RunningGateway):
    async with open_client(gateway.port) as client:
        headers = ("expect: 100-continue", "content-length: 99999999999")
        await client.send(post("/v1/chat/completions", b"", length=False, headers=headers))
        assert (await client.read_answer()).status == 413


async def test_expect_100_continue_waits_for_its_turn(pair: Pair, gateway: RunningGateway):
    go_on = asyncio.Event()

    async def late(turn: Turn) -> None:
        await go_on.wait()
        await echo(turn)

    pair.engine.script = late
    head, body = chat_with("second").split(b"\r\n\r\n", 1)
    async with open_client(gateway.port) as client:
        await client.send(chat_with("first"), head + b"\r\nexpect: 100-continue\r\n\r\n")
        assert await client.is_silent()
        go_on.set()
        assert (await client.read_answer()).text == "first"
        assert (await client.read_answer()).status == 100
        await client.send(body)
        assert (await client.read_answer()).text == "second"


async def test_expect_100_continue_of_http_1_0_is_ignored(gateway: RunningGateway):
    request = post("/v1/chat/completions", chat("old"), version="1.0", headers=("expect: 100-continue",))
    assert (await gateway.send_request(request)).text == "old"


# HTTP/1.0


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_client_of_http_1_0_gets_no_chunks_and_a_closed_connection(gateway: RunningGateway, streamed: bool):
    async with open_client(gateway.port) as client:
        await client.send(post("/v1/chat/completions", chat("to the old", stream=streamed), version="1.0"))
        answer = await client.read_answer()
        assert "transfer-encoding" not in answer.headers
        assert answer.headers["connection"] == "close"
        assert answer.text == ("totheold" if streamed else "to the old")
        assert await client.is_closed_by_peer()


async def test_a_client_of_http_1_0_may_omit_the_host(gateway: RunningGateway):
    request = b"POST /v1/chat/completions HTTP/1.0\r\ncontent-length: %d\r\n\r\n" % len(CHAT.partition(b"\r\n\r\n")[2])
    assert (await gateway.send_request(request + CHAT.partition(b"\r\n\r\n")[2])).text == "hi"


async def test_a_broken_stream_of_http_1_0_ends_with_the_error(pair: Pair, gateway: RunningGateway):
    pair.engine.script = send_pieces_then("close", chunked_head() + chunk(event("one")))
    answer = await gateway.send_request(post("/v1/chat/completions", chat(stream=True), version="1.0"))
    assert b'"code":"upstream_error"' in answer.data[-1]


# The connection afterwards


async def test_a_connection_serves_many_requests(gateway: RunningGateway):
    async with open_client(gateway.port) as client:
        for i in range(50):
            await client.send(chat_with(f"{i} a", stream=i % 2 == 1))
            assert (await client.read_answer()).text.replace(" ", "") == f"{i}a"
        assert len(gateway.connections) == 1


async def test_connection_close_is_respected_and_later_requests_are_ignored(pair: Pair, gateway: RunningGateway):
    async with open_client(gateway.port) as client:
        closing = post("/v1/chat/completions", chat("last"), headers=("connection: close",))
        await client.send(closing + chat_with("too late") + get("/livez"))
        answer = await client.read_answer()
        assert (answer.text, answer.headers["connection"]) == ("last", "close")
        assert await client.is_closed_by_peer()
    await run_event_loop()
    assert len(pair.engine.requests) == 1


async def test_a_bad_request_leaves_the_connection_open_when_its_end_is_clear(gateway: RunningGateway):
    async with open_client(gateway.port) as client:
        for body in (b"not JSON", b"{}", b'{"model":"m"}', b"", b"[" * 10_000, b"\xff\xfe"):
            await client.send(post("/v1/chat/completions", body))
            CHAT_ENDPOINTS["openai"].check_error(await client.read_answer(), 400, "invalid_request")
        await client.send(chat_with("still here"))
        assert (await client.read_answer()).text == "still here"


async def test_garbage_after_a_request_does_not_affect_its_response(pair: Pair, gateway: RunningGateway):
    go_on = asyncio.Event()

    async def late(turn: Turn) -> None:
        await turn.send(chunked_head() + chunk(event("safe")))
        await go_on.wait()
        await turn.send(stream("and", "sound")[len(chunked_head()) :])

    pair.engine.script = late
    async with open_client(gateway.port) as client:
        await client.send(STREAM)
        while b"safe" not in client.received:
            await client.receive()
        await client.send(b"\x00\xffgarbage\r\n\r\n" * 20)
        go_on.set()
        assert (await client.read_answer()).text == "safeandsound"
        assert await client.is_closed_by_peer()


async def test_garbage_after_an_asgi_request_does_not_affect_its_response(gateway: RunningGateway):
    async with open_client(gateway.port) as client:
        await client.send(get("/v1/models") + b"garbage\r\n\r\n")
        answer = await client.read_answer()
        assert answer.status == 200
        assert answer.json["data"][0]["id"] == "m"
        assert await client.is_closed_by_peer()


async def test_an_invalid_body_of_an_asgi_request_is_rejected(gateway: RunningGateway):
    async with open_client(gateway.port) as client:
        head = post("/api/show", b"", length=False, headers=("transfer-encoding: chunked",))
        await client.send(head + chunk(b'{"model":'), b"zz\r\n")
        assert (await client.read_answer()).status == 400
        assert await client.is_closed_by_peer()


async def test_an_invalid_body_of_a_queued_asgi_request_is_rejected_in_order(pair: Pair, gateway: RunningGateway):
    go_on = asyncio.Event()

    async def late(turn: Turn) -> None:
        await go_on.wait()
        await echo(turn)

    pair.engine.script = late
    async with open_client(gateway.port) as client:
        head = post("/api/show", b"", length=False, headers=("transfer-encoding: chunked",))
        await client.send(chat_with("first"), head + chunk(b'{"model":'), b"zz\r\n")
        assert await client.is_silent()
        go_on.set()
        assert (await client.read_answer()).text == "first"
        assert (await client.read_answer()).status == 400
        assert await client.is_closed_by_peer()


# Pipelining


async def test_pipelined_requests_are_answered_in_order(gateway: RunningGateway):
    async with open_client(gateway.port) as client:
        asked = [
            chat_with("one"),
            get("/livez"),
            chat_with("two two", stream=True),
            get("/v1/models"),
            chat_with("three"),
            chat_with("", model="x"),
        ]
        await client.send(b"".join(asked))
        assert (await client.read_answer()).text == "one"
        assert (await client.read_answer()).status == 200
        assert (await client.read_answer()).text == "twotwo"
        assert (await client.read_answer()).json["object"] == "list"
        assert (await client.read_answer()).text == "three"
        assert (await client.read_answer()).status == 404
        await client.send(chat_with("and on"))
        assert (await client.read_answer()).text == "and on"


kinds = st.lists(
    st.sampled_from(["unstreamed", "stream", "asgi", "missing", "invalid", "chunked"]), min_size=1, max_size=30
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kinds=kinds, cuts=st.lists(st.integers(0, 9000), max_size=8))
async def test_any_mixture_of_requests_is_answered_in_order(pair: Pair, kinds: list[str], cuts: list[int]):
    pair.engine.script = echo
    requests = {
        "unstreamed": lambda i: chat_with(f"w{i}"),
        "stream": lambda i: chat_with(f"s{i} t", stream=True),
        "asgi": lambda i: get("/api/version"),
        "missing": lambda i: chat_with("", model=f"x{i}"),
        "invalid": lambda i: post("/v1/chat/completions", b"{"),
        "chunked": lambda i: post_chunked(json.dumps(chat(f"c{i}")).encode(), [i, 2 * i]),
    }
    async with open_client(pair.gateway.port) as client:
        sending = asyncio.create_task(
            client.send(*pieces_of(b"".join(requests[kind](i) for i, kind in enumerate(kinds)), cuts))
        )
        for i, kind in enumerate(kinds):
            answer = await client.read_answer()
            if kind in ("unstreamed", "stream", "chunked"):
                assert answer.text == {"unstreamed": f"w{i}", "stream": f"s{i}t", "chunked": f"c{i}"}[kind]
            elif kind == "asgi":
                assert "version" in answer.json
            else:
                assert answer.status == {"missing": 404, "invalid": 400}[kind]
                if kind == "missing":
                    assert f"x{i}" in answer.json["error"]["message"]
        await sending
        assert await client.is_silent(0.005)


async def test_a_thousand_pipelined_requests_are_answered(pair: Pair, gateway: RunningGateway):
    async def first_waits(turn: Turn) -> None:
        if len(pair.engine.requests) == 1:
            await asyncio.sleep(0.05)
        await echo(turn)

    pair.engine.script = first_waits
    many = b"".join(chat_with(f"n{i}") if i % 3 else chat_with("", model="none") for i in range(1, 1001))
    async with open_client(gateway.port) as client:
        sending = asyncio.create_task(client.send(many))
        for i in range(1, 1001):
            answer = await client.read_answer()
            assert (answer.text == f"n{i}") if i % 3 else (answer.status == 404)
        await sending


async def test_reading_pauses_when_too_many_requests_are_pipelined(pair: Pair, gateway: RunningGateway):
    go_on = asyncio.Event()

    async def late(turn: Turn) -> None:
        await go_on.wait()
        await echo(turn)

    pair.engine.script = late
    async with open_client(gateway.port) as client:
        flood = chat_with("x" * 1000) * 20_000
        sending = asyncio.create_task(client.send(flood))
        await wait_until(lambda: gateway.connections and gateway.connections[0].flow.read_paused)
        await run_event_loop(20)
        waiting = gateway.connections[0].pipeline
        assert sum(cycle.body_size for cycle, _ in waiting) < 1_000_000
        sending.cancel()
    go_on.set()
    await gateway.wait_until_idle()


# Ids


@pytest.mark.parametrize(
    "own", ["abc-123", "a" * 128, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "x.y:z/1+2=_"]
)
async def test_a_valid_request_id_of_the_caller_is_kept(pair: Pair, gateway: RunningGateway, own: str):
    answer = await gateway.send_request(post("/v1/chat/completions", chat(), headers=(f"x-request-id: {own}",)))
    assert answer.headers["x-request-id"] == own
    assert pair.engine.requests[0].headers["x-request-id"] == own


@pytest.mark.parametrize("own", ["", "a b", "a" * 129, "<script>", "ключ", 'a"b', "a;b"])
async def test_an_invalid_request_id_is_replaced(gateway: RunningGateway, own: str):
    request = post("/v1/chat/completions", chat(), headers=("x-request-id: OWN",)).replace(b"OWN", own.encode())
    answer = await gateway.send_request(request)
    assert answer.text == "hi"
    assert answer.headers["x-request-id"] not in ("", own)


async def test_every_request_has_an_id_of_its_own(gateway: RunningGateway):
    ids = {(await gateway.send_request(CHAT)).headers["x-request-id"] for _ in range(20)}
    assert len(ids) == 20


async def test_every_response_has_a_date_and_names_the_server(gateway: RunningGateway):
    answer = await gateway.send_request(CHAT)
    assert answer.headers["date"].endswith(" GMT")
    assert answer.headers["x-penstock-server"] == "a"
    assert answer.headers["x-penstock-model"] == "m"
    assert answer.headers["x-penstock-fallback"] == "false"
    assert answer.headers["x-penstock-reason"]
