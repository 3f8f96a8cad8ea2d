"""A client that disconnects ends the engine's work at once in every API: the rest is never generated."""

import asyncio
import re
import time
from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest

from tests.support.gateway_process import ASK, STEP, Gateway, render_settings, run_gateway_process
from tests.support.real_engines import Running

AT_WORK: Final = {"llamacpp": "llamacpp:requests_processing", "vllm": "vllm:num_requests_running"}
MADE: Final = {"llamacpp": "llamacpp:tokens_predicted_total", "vllm": "vllm:generation_tokens_total"}
TIMEOUT_SECONDS: Final = 30.0  # seconds for a busy machine's engine to begin
ENDLESS: Final = {"ignore_eos": True, "max_tokens": 30_000}
MESSAGES: Final = [{"role": "user", "content": ASK}]
STREAMED: Final = ("/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses", "/api/chat")
UNSTREAMED: Final = ("/v1/messages", "/v1/responses", "/api/chat")
CALLS: Final[dict[str, dict[str, Any]]] = {
    "/v1/chat/completions": {"model": "tiny", "messages": MESSAGES, **ENDLESS},
    "/v1/completions": {"model": "tiny", "prompt": ASK, **ENDLESS},
    "/v1/messages": {"model": "tiny", "messages": MESSAGES, **ENDLESS},
    "/v1/responses": {"model": "tiny", "input": ASK, "ignore_eos": True, "max_output_tokens": 30_000},
    "/api/chat": {"model": "tiny", "messages": MESSAGES, "options": {"ignore_eos": True, "num_predict": 30_000}},
}


@pytest.fixture(scope="module")
def before_llama_cpp(llama_a: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with run_gateway_process(tmp_path_factory.mktemp("llamacpp"), render_settings("llamacpp", llama_a.url)) as running:
        yield running


@pytest.fixture(scope="module")
def before_vllm(vllm: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with run_gateway_process(tmp_path_factory.mktemp("vllm"), render_settings("vllm", vllm.url)) as running:
        yield running


async def read_gauge(engine: Running, client: httpx.AsyncClient, gauge: str) -> float:
    """Read a gauge from the engine's own metrics."""
    text = (await client.get(f"{engine.url}/metrics")).text
    found = re.findall(rf"^{gauge}(?:{{.*}})? ([\d.e+]+)$", text, re.MULTILINE)
    assert found, text[:2000]
    return sum(float(value) for value in found)


async def until_at_work(engine: Running, client: httpx.AsyncClient, number: int) -> None:
    """Wait until it is busy with so many."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while await read_gauge(engine, client, AT_WORK[engine.engine]) != number:
        assert time.monotonic() < deadline, f"not {number} at work within {TIMEOUT_SECONDS} s"
        await asyncio.sleep(STEP)


async def hang_up(engine: Running, running: Gateway, path: str, body: dict[str, Any]) -> float:
    """Start a call and disconnect in the middle; return the tokens that the engine generated until it stopped."""
    async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT_SECONDS) as watch:
        before = await read_gauge(engine, watch, MADE[engine.engine])
        async with httpx.AsyncClient(base_url=running.url, trust_env=False, timeout=TIMEOUT_SECONDS) as client:
            if body.get("stream"):
                async with client.stream("POST", path, json=body) as response:
                    assert response.status_code == 200, await response.aread()
                    await anext(response.aiter_bytes())  # so it is at work
            else:
                call = asyncio.create_task(client.post(path, json=body))
                await until_at_work(engine, watch, 1)
                call.cancel()
                await asyncio.gather(call, return_exceptions=True)
        await until_at_work(engine, watch, 0)
        return await read_gauge(engine, watch, MADE[engine.engine]) - before


@pytest.mark.engine("llamacpp")
@pytest.mark.parametrize(
    ("path", "stream"), [*((path, True) for path in STREAMED), *((path, False) for path in UNSTREAMED)]
)
async def test_hanging_up_stops_llama_cpp(llama_a: Running, before_llama_cpp: Gateway, path: str, stream: bool) -> None:
    """An unstreamed response in its own API is the exception: llama.cpp always completes it."""
    assert await hang_up(llama_a, before_llama_cpp, path, {**CALLS[path], "stream": stream}) < 30_000 / 2
    seen = before_llama_cpp.list_servers()["llamacpp1"]
    assert (seen["running"], seen["state"]) == (0, "up")  # a disconnect is not an error of the server


@pytest.mark.engine("vllm")
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unstreamed"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
async def test_hanging_up_stops_vllm(vllm: Running, before_vllm: Gateway, path: str, stream: bool) -> None:
    body = {**CALLS[path], "stream": stream, "max_tokens": 1900}
    assert await hang_up(vllm, before_vllm, path, body) < 1900 / 2
    assert before_vllm.list_servers()["vllm1"]["running"] == 0
