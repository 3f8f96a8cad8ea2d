"""Connections to engines: kept, reused, replaced, closed; over TLS, IPv6 and under a path prefix."""

import asyncio
import ssl
import subprocess
from pathlib import Path

import pytest

from penstock.gateway.upstream.transport.pool import Pool
from tests.support.gateway import RunningGateway, run_gateway, server_settings, wait_until
from tests.support.raw_client import chat, open_client, post
from tests.support.raw_engine import (
    DONE,
    END,
    RawEngine,
    chunk,
    chunked_head,
    completion,
    event,
    response,
    run_in_order,
    send_pieces,
    send_pieces_then,
    stream,
)

ANSWER = completion("hello")
GOOD = send_pieces(response(ANSWER))
CHAT = post("/v1/chat/completions", chat())
STREAM = post("/v1/chat/completions", chat(stream=True))


def pool_of(gateway: RunningGateway) -> Pool:
    [pool] = gateway.gateway.pools._pools.values()
    return pool


async def test_a_kept_connection_is_used_again():
    async with RawEngine(GOOD) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        for _ in range(5):
            assert (await gateway.send_request(CHAT)).body == ANSWER
        assert engine.accepted == 1
        assert [request.connection for request in engine.requests] == [1] * 5


async def test_simultaneous_calls_have_a_connection_each_and_later_ones_reuse_them():
    async with RawEngine(GOOD) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        go_on = asyncio.Event()

        async def wait_for_all(turn):
            await go_on.wait()
            await GOOD(turn)

        engine.script = wait_for_all
        asked = [asyncio.create_task(gateway.send_request(CHAT)) for _ in range(8)]
        await wait_until(lambda: len(engine.requests) == 8)
        assert gateway.list_leftovers()["busy connections"] == 8
        go_on.set()
        assert {answer.body for answer in await asyncio.gather(*asked)} == {ANSWER}
        await gateway.send_request(CHAT)
        assert engine.accepted == 8


async def test_a_connection_that_the_engine_closed_is_replaced_silently():
    async with (
        RawEngine(send_pieces_then("close", response(ANSWER))) as engine,
        run_gateway(server_settings("a", engine.url)) as gateway,
    ):
        for _ in range(4):
            answer = await gateway.send_request(CHAT)
            assert (answer.status, answer.headers["x-penstock-fallback"]) == (200, "false")
        assert engine.accepted == 4


@pytest.mark.parametrize("then", ["close", "reset"])
async def test_a_connection_that_dies_as_the_request_is_sent_is_replaced_silently(then: str):
    async with RawEngine(GOOD) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        await gateway.send_request(CHAT)
        engine.script = run_in_order(send_pieces_then(then), GOOD)
        answer = await gateway.send_request(CHAT)
        assert (answer.status, answer.body, answer.headers["x-penstock-fallback"]) == (200, ANSWER, "false")
        assert [request.connection for request in engine.requests] == [1, 1, 2]
        assert gateway.gateway.catalog.loads["a"].consecutive_failures == 0


async def test_many_kept_connections_that_died_are_replaced_by_one():
    async with RawEngine(GOOD) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        held = [asyncio.create_task(gateway.send_request(CHAT)) for _ in range(6)]
        await asyncio.gather(*held)
        for line in tuple(engine.lines):
            line.transport.abort()
        before = engine.accepted
        assert (await gateway.send_request(CHAT)).body == ANSWER
        assert engine.accepted == before + 1


async def test_a_new_connection_that_dies_is_an_error():
    async with RawEngine(send_pieces_then("close")) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        answer = await gateway.send_request(CHAT)
        assert (answer.status, answer.json["error"]["code"]) == (502, "upstream_error")
        assert engine.accepted == 1


async def test_a_free_connection_is_closed_after_a_while():
    async with RawEngine(GOOD) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        await gateway.send_request(CHAT)
        [line] = engine.lines
        pool = pool_of(gateway)
        now = pool.loop.time()
        pool.sweep(now + 59)
        assert pool.size == 1
        pool.sweep(now + 62)
        assert pool.size == 0
        await asyncio.wait_for(line.gone.wait(), 1)
        assert (await gateway.send_request(CHAT)).body == ANSWER
        assert engine.accepted == 2


async def test_a_free_connection_that_the_engine_closes_is_not_counted():
    async with RawEngine(GOOD) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        await gateway.send_request(CHAT)
        [line] = engine.lines
        line.transport.close()
        await wait_until(lambda: pool_of(gateway).size == 0)


async def test_no_more_free_connections_are_kept_than_the_limit():
    async with RawEngine(GOOD) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        await gateway.send_request(CHAT)
        most = pool_of(gateway)._limits.max_idle
        assert most == 128
        together = asyncio.Event()

        async def all_together(turn):
            if len(engine.requests) > most + 10:
                together.set()
            await together.wait()
            await GOOD(turn)

        engine.script = all_together
        answers = await asyncio.gather(*(gateway.send_request(CHAT) for _ in range(most + 10)))
        assert {answer.status for answer in answers} == {200}
        await wait_until(lambda: pool_of(gateway).size == most)


async def test_unexpected_bytes_on_a_free_connection_close_it():
    async with RawEngine(GOOD) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        await gateway.send_request(CHAT)
        [line] = engine.lines
        line.transport.write(response(completion("an answer to nothing")))
        await asyncio.wait_for(line.gone.wait(), 1)
        assert (await gateway.send_request(CHAT)).body == ANSWER


LIES = {
    "shorter than its length": send_pieces_then("close", response(ANSWER)[:-10]),
    "chunked and cut": send_pieces_then("close", chunked_head("application/json") + chunk(ANSWER[:40])),
    "cut in its head": send_pieces_then("close", response(ANSWER)[:30]),
    "reset in its body": send_pieces_then("reset", response(ANSWER)[:-10]),
    "not HTTP": send_pieces(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "zeros": send_pieces(bytes(500)),
    "HTTP/2": send_pieces(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00"),
    "lengths that differ": send_pieces(response(ANSWER, headers=("Content-Length: 5",))),
    "length and chunked": send_pieces(response(ANSWER, headers=("Transfer-Encoding: chunked",))),
    "a length that is no number": send_pieces(b"HTTP/1.1 200 OK\r\nContent-Length: ten\r\n\r\n" + ANSWER),
    "a chunk size that is no number": send_pieces(chunked_head("application/json") + b"zz\r\n" + ANSWER),
    "lines without CR": send_pieces(b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}"),
    "switching protocols": send_pieces(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n{}"
    ),
    "a head without end": send_pieces(b"HTTP/1.1 200 OK\r\n" + b"X-A: " + b"y" * 400_000),
    "interim answers without end": send_pieces(*[b"HTTP/1.1 100 Continue\r\n\r\n" * 2000] * 4),
    "text that calls itself JSON": send_pieces(response(b"Internal error")),
    "a web page": send_pieces(response(b"<html>welcome to nginx</html>", content_type="text/html")),
    "nothing": send_pieces(response(b"")),
    "no content": send_pieces(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "a redirect": send_pieces(response(b"", status="301 Moved", headers=("Location: https://elsewhere/",))),
    "JSON cut off, with its true length": send_pieces(response(ANSWER[:-1])),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_protocol_error_of_an_engine_affects_only_its_call(lie: str):
    async with RawEngine(LIES[lie]) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        answer = await gateway.send_request(CHAT)
        assert (answer.status, answer.json["error"]["code"]) == (502, "upstream_error"), answer.json
        await gateway.wait_until_idle()
        assert len(engine.requests) == 1
        engine.script = GOOD
        assert (await gateway.send_request(CHAT)).body == ANSWER


@pytest.mark.parametrize("lie", LIES)
async def test_a_protocol_error_of_an_engine_is_retried_on_another_server(lie: str):
    async with (
        RawEngine(LIES[lie]) as bad,
        RawEngine(GOOD) as good,
        run_gateway(
            server_settings("bad", bad.url), server_settings("good", good.url, priority="SECONDARY")
        ) as gateway,
    ):
        answer = await gateway.send_request(CHAT)
        assert answer.body == ANSWER
        assert (answer.headers["x-penstock-server"], answer.headers["x-penstock-fallback"]) == ("good", "true")
        assert len(bad.requests) == 1


NO_STREAMS = {name: script for name, script in LIES.items() if name != "chunked and cut"} | {
    "a stream of something else": send_pieces(chunked_head() + chunk(b"hello") + END),
    "a stream of nothing": send_pieces(chunked_head() + END),
    "a stream cut before its first event": send_pieces_then("close", chunked_head()),
    "a stream cut in its first event": send_pieces_then("close", chunked_head() + chunk(event("a"))[:-5]),
    "a stream that closes before its first event": send_pieces_then("close", response(b"")[:45]),
}


@pytest.mark.parametrize("lie", NO_STREAMS)
async def test_a_stream_that_does_not_start_is_retried_on_another_server(lie: str):
    async with (
        RawEngine(NO_STREAMS[lie]) as bad,
        RawEngine(send_pieces(stream("good"))) as good,
        run_gateway(
            server_settings("bad", bad.url), server_settings("good", good.url, priority="SECONDARY")
        ) as gateway,
    ):
        answer = await gateway.send_request(STREAM)
        assert answer.text == "good"
        assert (answer.headers["x-penstock-server"], answer.headers["x-penstock-fallback"]) == ("good", "true")


EXTRA = {
    "more bytes than its length": send_pieces(response(ANSWER) + b"garbage"),
    "two answers": send_pieces(response(ANSWER) + response(completion("another"))),
    "an empty line": send_pieces(response(ANSWER) + b"\r\n"),
}


@pytest.mark.parametrize("extra", EXTRA)
async def test_bytes_after_a_response_never_reach_a_client(extra: str):
    async with (
        RawEngine(EXTRA[extra]) as engine,
        run_gateway(server_settings("a", engine.url)) as gateway,
        open_client(gateway.port) as client,
    ):
        for _ in range(3):
            await client.send(CHAT)
            assert (await client.read_answer()).body == ANSWER
        assert await client.is_silent()


@pytest.mark.parametrize("tail", [b"\r\n", b"\n", b"\r\n\r\n"])
async def test_empty_lines_after_a_stream_never_reach_a_client(tail: bytes):
    async with (
        RawEngine(send_pieces(stream("a", "b") + tail)) as engine,
        run_gateway(server_settings("a", engine.url)) as gateway,
        open_client(gateway.port) as client,
    ):
        for _ in range(2):
            await client.send(STREAM)
            assert (await client.read_answer()).text == "ab"
        assert await client.is_silent()
        assert not client.received


@pytest.mark.parametrize("tail", [b"garbage", stream("another")])
async def test_bytes_after_a_stream_never_reach_a_client(tail: bytes):
    async with (
        RawEngine(send_pieces(chunked_head() + chunk(event("a")), stream("b")[len(chunked_head()) :] + tail)) as engine,
        run_gateway(server_settings("a", engine.url)) as gateway,
        open_client(gateway.port) as client,
    ):
        await client.send(STREAM)
        answer = await client.read_answer()
        assert b"another" not in answer.body
        assert b"garbage" not in answer.body
        assert answer.data[0] == event("a")[6:].strip()
        await gateway.wait_until_idle()


@pytest.mark.parametrize("many", [1, 40])
async def test_a_stream_cut_in_the_middle_of_a_chunk_ends_with_a_well_framed_error(many: int):
    half = chunk(event("never"))[:-20]
    script = send_pieces_then("close", chunked_head() + chunk(event("one")) * many, half)
    async with RawEngine(script) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        answer = await gateway.send_request(STREAM)
        assert answer.complete
        assert len(answer.data) == many + 1
        assert b'"code":"upstream_error"' in answer.data[-1]
        assert b"never" not in answer.body


async def test_a_chunk_too_large_to_buffer_is_forwarded_in_pieces_and_cut_visibly():
    large = event("x" * 300_000)
    async with (
        RawEngine(send_pieces(chunked_head() + chunk(event("one")), chunk(large), chunk(DONE), END)) as engine,
        run_gateway(server_settings("a", engine.url)) as gateway,
    ):
        assert (await gateway.send_request(STREAM)).body == event("one") + large + DONE
        engine.script = send_pieces_then("close", chunked_head() + chunk(event("one")), chunk(large)[:-9])
        answer = await gateway.send_request(STREAM)
        assert not answer.complete


SLOWED = {
    "a stream": (STREAM, b"".join((chunked_head(), chunk(event("x" * 100_000)) * 2, chunk(DONE), END))),
    "a translated stream": (
        post("/api/chat", chat(stream=True)),
        b"".join((chunked_head(), chunk(event("x" * 100_000)) * 2, chunk(event(finish="stop") + DONE), END)),
    ),
    "an unstreamed response": (CHAT, response(completion("x" * 100_000))),
    "an unstreamed response too large to buffer": (CHAT, response(completion("x" * 400_000))),
}


@pytest.mark.parametrize("kind", SLOWED)
async def test_a_client_too_slow_for_the_end_of_its_response_leaves_no_paused_connection(kind: str):
    request, answer = SLOWED[kind]
    async with RawEngine(send_pieces(answer)) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        slow = await gateway.connect_slow_client()
        await slow.send(request)
        await wait_until(lambda: engine.requests and gateway.unsent_bytes > 65536)
        drain = asyncio.create_task(slow.read_answer())
        await gateway.wait_until_idle()
        assert (await drain).complete
        engine.script = GOOD
        for _ in range(2):
            assert (await gateway.send_request(CHAT, 2)).body == ANSWER
        assert engine.accepted == 1


async def test_the_path_of_a_base_url_comes_first():
    async with (
        RawEngine(GOOD, prefix="/engines/one") as engine,
        run_gateway(server_settings("a", engine.url)) as gateway,
    ):
        assert (await gateway.send_request(CHAT)).status == 200
        assert engine.requests[0].path == "/engines/one/v1/chat/completions"


async def test_an_engine_may_be_on_ipv6():
    try:
        engine = await RawEngine(GOOD, host="::1").__aenter__()
    except OSError:
        pytest.skip("no IPv6 on this machine")
    try:
        async with run_gateway(server_settings("a", engine.url)) as gateway:
            assert (await gateway.send_request(CHAT)).body == ANSWER
            assert engine.requests[0].headers["host"] == f"[::1]:{engine.port}"
    finally:
        await engine.__aexit__()


async def test_credentials_are_sent_as_the_engine_expects_them():
    async with RawEngine(GOOD) as engine:
        async with run_gateway(server_settings("a", engine.url, api_key="k-1")) as gateway:
            await gateway.send_request(CHAT)
        async with run_gateway(server_settings("a", engine.url, credentials="me:päss")) as gateway:
            await gateway.send_request(
                post("/v1/chat/completions", chat(), headers=("authorization: Bearer client's",))
            )
    bearer, basic = (request.headers["authorization"] for request in engine.requests)
    assert bearer == "Bearer k-1"
    assert basic == "Basic bWU6cMOkc3M="


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key in the same file."""
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(cert), "-days", "2", "-subj", "/CN=engine"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no openssl to make a certificate with")
    both = folder / "both.pem"
    both.write_bytes(key.read_bytes() + cert.read_bytes())
    return both


def serving(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def test_tls_is_verified_with_the_authority_that_settings_name(certificate: Path):
    async with RawEngine(GOOD, tls=serving(certificate)) as engine:
        trusted = str(certificate.with_name("cert.pem"))
        async with run_gateway(server_settings("a", engine.url, verify_tls=trusted)) as gateway:
            assert (await gateway.send_request(CHAT)).body == ANSWER
            engine.script = send_pieces(stream("a", "b"))
            assert (await gateway.send_request(STREAM)).text == "ab"
            assert engine.accepted == 1


async def test_a_certificate_of_an_unknown_authority_is_refused(certificate: Path):
    async with (
        RawEngine(GOOD, tls=serving(certificate)) as engine,
        run_gateway(server_settings("a", engine.url)) as gateway,
    ):
        answer = await gateway.send_request(CHAT)
        assert (answer.status, answer.json["error"]["code"]) == (503, "no_server")
        assert "certificate is not trusted" in answer.json["error"]["message"]
        assert not engine.requests


async def test_a_certificate_for_another_name_is_refused(certificate: Path):
    async with RawEngine(GOOD, tls=serving(certificate)) as engine:
        url = engine.url.replace("127.0.0.1", "localhost")
        async with run_gateway(server_settings("a", url, verify_tls=str(certificate.with_name("cert.pem")))) as gateway:
            answer = await gateway.send_request(CHAT)
            assert answer.status == 503
            assert not engine.requests


async def test_verification_may_be_turned_off(certificate: Path):
    async with (
        RawEngine(GOOD, tls=serving(certificate)) as engine,
        run_gateway(server_settings("a", engine.url, verify_tls=False)) as gateway,
    ):
        assert (await gateway.send_request(CHAT)).body == ANSWER


async def test_a_server_without_tls_is_distinguished_from_an_unreachable_one():
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as listener:
        url = f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        async with run_gateway(server_settings("a", url)) as gateway:
            answer = await gateway.send_request(CHAT)
            assert answer.status == 503
            assert "TLS failed" in answer.json["error"]["message"]


# What becomes of addresses when settings change


async def test_an_address_that_is_configured_again_keeps_connections_again():
    async with RawEngine(GOOD) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        hold = asyncio.Event()

        async def wait_for_hold(turn):
            await hold.wait()
            await GOOD(turn)

        engine.script = wait_for_hold
        running_call = asyncio.create_task(gateway.send_request(CHAT))
        await wait_until(lambda: engine.requests)
        gateway.gateway.pools.retain(lambda url: False)
        gateway.gateway.failover.forget()
        hold.set()
        assert (await running_call).status == 200
        for _ in range(3):
            await gateway.send_request(CHAT)
        assert engine.accepted <= 2
