"""A model that a server got since the last probe is found by the first call for it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest_asyncio

from penstock.control.discovery.schedule import MIN_PROBE_GAP
from penstock.sim import Faults, SimOptions, Simulator
from tests.support.gateway_process import Gateway, run_gateway_process

ASK = [{"role": "user", "content": "Привет!"}]


@pytest_asyncio.fixture
async def engine() -> AsyncIterator[Simulator]:
    async with Simulator(SimOptions.instant("ollama", "gemma3:1b")) as running:
        yield running


@pytest_asyncio.fixture
async def running(engine: Simulator, tmp_path: Path) -> AsyncIterator[Gateway]:
    settings = f"llm: {{providers: {{ollama: {{base_url: '{engine.url}'}}}}}}\n"
    loop = asyncio.get_running_loop()
    context = run_gateway_process(tmp_path / "gateway", settings)
    started = await loop.run_in_executor(None, context.__enter__)
    await asyncio.sleep(MIN_PROBE_GAP + 0.1)  # what was seen within that time is not looked at again
    yield started
    await loop.run_in_executor(None, context.__exit__, None, None, None)


def count_probes(engine: Simulator) -> int:
    return engine.counters.requests.get("/api/tags", 0)


async def test_a_model_pulled_on_the_server_itself_answers_at_once(engine: Simulator, running: Gateway) -> None:
    async with httpx.AsyncClient(base_url=running.url, trust_env=False) as client:
        pulled = await client.post(f"{engine.url}/api/pull", json={"model": "qwen2.5:1.5b", "stream": False})
        assert pulled.json() == {"status": "success"}
        answer = await client.post("/api/chat", json={"model": "qwen2.5:1.5b", "messages": ASK, "stream": False})
        assert (answer.status_code, answer.json()["model"]) == (200, "qwen2.5:1.5b")


async def test_a_model_pulled_through_the_gateway_is_listed_and_answers_at_once(running: Gateway) -> None:
    async with httpx.AsyncClient(base_url=running.url, trust_env=False) as client:
        for model in ("qwen2.5:1.5b", "llama3.2:1b"):
            assert (await client.post("/api/show", json={"model": model})).status_code == 404
            await client.post("/api/pull", json={"model": model})
            assert (await client.post("/api/show", json={"model": model})).status_code == 200
            answer = await client.post("/v1/chat/completions", json={"model": model, "messages": ASK})
            assert (answer.status_code, answer.json()["model"]) == (200, model)


async def test_many_calls_for_an_unknown_model_cost_the_server_one_probe_a_second(
    engine: Simulator, running: Gateway
) -> None:
    before = count_probes(engine)
    async with httpx.AsyncClient(base_url=running.url, trust_env=False) as client:
        body = {"model": "none-of-them", "messages": ASK}
        began = asyncio.get_running_loop().time()
        answers = [await asyncio.gather(*(client.post("/v1/chat/completions", json=body) for _ in range(10)))]
        answers += [await asyncio.gather(*(client.post("/api/chat", json=body) for _ in range(10)))]
        took = asyncio.get_running_loop().time() - began
    assert {answer.status_code for some in answers for answer in some} == {404}
    assert count_probes(engine) - before <= 2 + took


async def test_a_server_that_hangs_delays_the_answer_for_a_moment_only(engine: Simulator, running: Gateway) -> None:
    engine.faults = Faults(hang_before=1, scope="probe")
    async with httpx.AsyncClient(base_url=running.url, trust_env=False, timeout=10) as client:
        began = asyncio.get_running_loop().time()
        answer = await client.post("/v1/chat/completions", json={"model": "none-of-them", "messages": ASK})
        assert (answer.status_code, answer.json()["error"]["code"]) == (
            503,
            "no_server",
        )
        assert asyncio.get_running_loop().time() - began < 5
