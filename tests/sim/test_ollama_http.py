"""Ollama's HTTP layer: routes, methods, redirects, origins, hosts."""

import asyncio
import re

import pytest

from penstock.sim import SimOptions, Simulator
from tests.sim.client import ask


async def test_its_root_says_that_it_runs(ollama: Simulator) -> None:
    answer = await ask(ollama.url, "GET", "/")
    assert (answer.status, answer.body) == (200, b"Ollama is running")
    assert answer.header("content-type") == "text/plain; charset=utf-8"


async def test_head_of_its_root_has_a_length_and_no_body(ollama: Simulator) -> None:
    answer = await ask(ollama.url, "HEAD", "/")
    assert (answer.status, answer.header("content-length")) == (200, "17")
    assert answer.raw.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_it_tells_its_version(ollama: Simulator, method: str) -> None:
    answer = await ask(ollama.url, method, "/api/version")
    assert answer.status == 200
    if method == "GET":
        assert re.fullmatch(r"\d+\.\d+\.\d+", answer.json["version"])


async def test_an_unknown_path_is_a_plain_404(ollama: Simulator) -> None:
    answer = await ask(ollama.url, "GET", "/nope")
    assert (answer.status, answer.body) == (404, b"404 page not found")
    assert answer.header("content-type") == "text/plain"


@pytest.mark.parametrize(("method", "path", "allowed"), [("GET", "/api/generate", "POST"), ("HEAD", "/api/ps", "GET")])
async def test_a_wrong_method_is_told_the_right_one(ollama: Simulator, method: str, path: str, allowed: str) -> None:
    answer = await ask(ollama.url, method, path)
    assert (answer.status, answer.header("allow")) == (405, allowed)
    if method == "GET":
        assert answer.body == b"405 method not allowed"


async def test_a_slash_is_removed_only_where_the_method_fits(ollama: Simulator) -> None:
    assert (await ask(ollama.url, "POST", "/api/tags/")).status == 404


async def test_every_answer_to_a_wrong_method_lists_the_right_ones(ollama: Simulator) -> None:
    for headers, status in (({"Host": "localhost"}, 204), ({"Origin": "https://evil.example"}, 403)):
        answer = await ask(ollama.url, "OPTIONS", "/api/version", headers=headers)
        assert (answer.status, answer.header("allow")) == (status, "HEAD, GET")


async def test_a_target_with_a_host_is_served_and_a_request_without_any_refused(ollama: Simulator) -> None:
    assert (await ask(ollama.url, "GET", f"{ollama.url}/api/version")).status == 200
    reader, writer = await asyncio.open_connection("127.0.0.1", ollama.port)
    writer.write(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.endswith(b"missing required Host header")


async def test_head_of_tags_is_empty(ollama: Simulator) -> None:
    answer = await ask(ollama.url, "HEAD", "/api/tags")
    assert answer.status == 200
    assert answer.raw.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("method", "path", "status", "place"),
    [
        ("GET", "/api/tags/", 301, "/api/tags"),
        ("POST", "/api/chat/", 307, "/api/chat"),
        ("GET", "/api/tags/?ts=1", 301, "/api/tags?ts=1"),
        ("POST", "//api/chat", 307, "/api/chat"),
        ("GET", "/api/./x/../tags", 307, "/api/tags"),
        ("HEAD", "/api/tags/", 307, "/api/tags"),
        ("GET", "//api/%0D%0Ax", 307, "/api/%0D%0Ax"),
    ],
)
async def test_a_crooked_path_is_sent_to_the_straight_one(
    ollama: Simulator, method: str, path: str, status: int, place: str
) -> None:
    answer = await ask(ollama.url, method, path)
    assert (answer.status, answer.header("location")) == (status, place)


async def test_it_names_no_server_and_ignores_queries(ollama: Simulator) -> None:
    answer = await ask(ollama.url, "GET", "/api/tags?ts=1", headers={"Authorization": "Bearer whatever"})
    assert answer.status == 200
    assert answer.header("server") is None
    assert answer.header("date")


@pytest.mark.parametrize("path", ["/api/tags", "/nope"])
async def test_a_foreign_origin_is_refused_everywhere(ollama: Simulator, path: str) -> None:
    answer = await ask(ollama.url, "GET", path, headers={"Origin": "https://evil.example"})
    assert (answer.status, answer.body) == (403, b"")


async def test_a_local_origin_is_echoed(ollama: Simulator) -> None:
    answer = await ask(ollama.url, "GET", "/api/tags", headers={"Origin": "http://localhost:3000"})
    assert answer.status == 200
    assert answer.header("access-control-allow-origin") == "http://localhost:3000"
    assert answer.header("vary") == "Origin"


async def test_its_own_origin_needs_no_permission(ollama: Simulator) -> None:
    answer = await ask(ollama.url, "GET", "/api/tags", headers={"Origin": ollama.url})
    assert answer.status == 200
    assert answer.header("access-control-allow-origin") is None


async def test_a_preflight_is_answered_for_half_a_day(ollama: Simulator) -> None:
    answer = await ask(ollama.url, "OPTIONS", "/api/chat", headers={"Origin": "http://localhost:3000"})
    assert (answer.status, answer.header("access-control-max-age")) == (204, "43200")
    assert sum(name.lower() == "vary" for name, _ in answer.headers) == 3


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example", 403),
        ("[::1", 403),
        ("foo.local", 200),
        ("localhost", 200),
        ("192.168.1.7", 200),
        ("8.8.8.8", 403),
    ],
)
async def test_on_loopback_a_foreign_host_name_is_refused(ollama: Simulator, host: str, status: int) -> None:
    answer = await ask(ollama.url, "GET", "/api/version", headers={"Host": host})
    assert answer.status == status
    if status == 403:
        assert answer.body == b""


async def test_options_without_origin_depend_on_how_the_host_is_named(ollama: Simulator) -> None:
    by_name = await ask(ollama.url, "OPTIONS", "/api/chat", headers={"Host": "localhost:11434"})
    by_address = await ask(ollama.url, "OPTIONS", "/api/chat")
    assert (by_name.status, by_address.status) == (204, 405)


async def test_any_host_name_will_do_when_it_listens_everywhere() -> None:
    async with Simulator(SimOptions(host="0.0.0.0")) as simulator:
        answer = await ask(simulator.url, "GET", "/api/version", headers={"Host": "evil.example"})
    assert answer.status == 200


async def test_requests_on_one_connection_are_answered_in_order(ollama: Simulator) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", ollama.port)
    paths = ["/", "/api/version", "/nope", "/"]
    writer.write(b"".join(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() for path in paths))
    read = b""
    while read.count(b"Ollama is running") < 2:
        read += await reader.read(65536)
    writer.close()
    await writer.wait_closed()
    assert re.findall(rb"HTTP/1.1 (\d+)", read) == [b"200", b"200", b"404", b"200"]


async def test_an_http_1_0_client_gets_a_stream_that_ends_with_the_connection(ollama: Simulator) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", ollama.port)
    body = b'{"model":"gemma3:1b","prompt":"hi"}'
    writer.write(b"POST /api/generate HTTP/1.0\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    read = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, lines = read.partition(b"\r\n\r\n")
    assert b"chunked" not in head.lower()
    assert lines.endswith(b"}\n")
    assert b'"done":true' in lines
