"""Hosts, origins and targets of requests, as clients send them."""

import pytest

from tests.support.gateway import run_gateway, server_settings
from tests.support.raw_client import chat, get, post
from tests.support.raw_engine import RawEngine, completion, response, send_pieces

GOOD = send_pieces(response(completion("good")))


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("app://obsidian.md", 200),
        ("vscode-webview://abc", 200),
        ("chrome-extension://abc", 200),
        ("moz-extension://abc", 403),
        ("https://evil.example", 403),
    ],
)
async def test_apps_and_listed_extensions_may_call_and_read_the_headers(origin: str, status: int):
    async with (
        RawEngine(GOOD) as engine,
        run_gateway(server_settings("one", engine.url), origins=("chrome-extension://*",)) as gateway,
    ):
        for path, request in (
            ("/v1/chat/completions", post("/v1/chat/completions", chat(), headers=(f"origin: {origin}",))),
            ("/v1/models", get("/v1/models", headers=(f"origin: {origin}",))),
        ):
            answer = await gateway.send_request(request)
            assert answer.status == status, path
            if status == 200:
                assert answer.headers["access-control-allow-origin"] == origin
                assert "x-penstock-ignored" in answer.headers["access-control-expose-headers"]


@pytest.mark.parametrize(
    ("host", "status"),
    [("ollama:11434", 200), ("", 200), ("box.lan", 200), ("localhost:evil.com", 403), ("a.com", 403)],
)
async def test_hosts_without_a_public_name_are_served(host: str, status: int):
    async with (
        RawEngine(GOOD) as engine,
        run_gateway(server_settings("one", engine.url)) as gateway,
    ):
        for request in (post("/v1/chat/completions", chat(), host=host), get("/v1/models", host=host)):
            assert (await gateway.send_request(request)).status == status


@pytest.mark.parametrize(
    "path", ["//v1//chat/completions", "/v1/chat/completions/", "http://ollama:1/v1/chat/completions"]
)
async def test_variants_of_a_target_find_their_route(path: str):
    async with (
        RawEngine(GOOD) as engine,
        run_gateway(server_settings("one", engine.url)) as gateway,
    ):
        assert (await gateway.send_request(post(path, chat()))).status == 200
        listing = path.replace("chat/completions", "models")
        answer = await gateway.send_request(get(listing))
        assert (answer.status, answer.json["object"]) == (200, "list")
        assert (
            await gateway.send_request(get("/v1/models", method="HEAD", headers=("connection: close",)))
        ).status == 200


@pytest.mark.parametrize("path", ["http://evil.example/v1/chat/completions", "http://evil.example/v1/models"])
async def test_the_host_of_a_target_counts(path: str):
    async with (
        RawEngine(GOOD) as engine,
        run_gateway(server_settings("one", engine.url)) as gateway,
    ):
        assert (await gateway.send_request(post(path, chat()))).status == 403
