"""Calls through the gateway are counted by model and server, with their retries."""

from tests.support.gateway import run_gateway, server_settings
from tests.support.raw_client import chat, post
from tests.support.raw_engine import RawEngine, completion, response, send_pieces

CHAT = post("/v1/chat/completions", chat())
GOOD = send_pieces(response(completion("good")))
UNAVAILABLE = send_pieces(response(b"{}", status="503 Service Unavailable"))


async def test_a_call_is_counted_under_its_model_and_server():
    async with RawEngine(GOOD) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        for _ in range(2):
            assert (await gateway.send_request(CHAT)).status == 200
        snapshot = gateway.gateway.meter.take_snapshot(0.0)
        assert [(total.name, total.requests) for total in snapshot.models] == [("m", 2)]
        assert [(total.name, total.requests) for total in snapshot.servers] == [("a", 2)]
        assert (snapshot.retries, snapshot.codes, snapshot.wires) == (0, {"ok": 2}, {"openai.chat": 2})


async def test_a_retry_is_counted_for_the_server_that_failed():
    async with (
        RawEngine(UNAVAILABLE) as bad,
        RawEngine(GOOD) as good,
        run_gateway(
            server_settings("bad", bad.url), server_settings("good", good.url, priority="SECONDARY")
        ) as gateway,
    ):
        assert (await gateway.send_request(CHAT)).status == 200
        snapshot = gateway.gateway.meter.take_snapshot(0.0)
        assert (snapshot.retries, snapshot.all.fallbacks, snapshot.all.requests) == (1, 1, 1)
        text = gateway.gateway.meter.render_prometheus().decode()
        assert 'penstock_retries_total{server="bad"} 1\n' in text
        assert 'penstock_requests_total{wire="openai.chat",model="m",server="good",code="ok"} 1\n' in text


async def test_a_call_that_no_server_can_answer_is_counted_without_a_server():
    async with RawEngine(GOOD) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        assert (await gateway.send_request(post("/v1/chat/completions", chat(model="unknown")))).status == 404
        snapshot = gateway.gateway.meter.take_snapshot(0.0)
        assert (snapshot.codes, snapshot.servers) == ({"model_not_found": 1}, ())
