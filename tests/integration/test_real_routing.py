"""Routing to real servers: LLM_MODE, model names, two servers with one model, and a server that dies during calls."""

import asyncio
import signal
from collections import Counter
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from penstock.sim import SimOptions
from tests.support.gateway_process import ASK, Gateway, render_settings, run_gateway_process, wait_until
from tests.support.real_engines import SENTENCE, Running, llama_server
from tests.support.simulators import SIM_TEXT, Simulators

DOWN: Final = "http://127.0.0.1:9"
MESSAGES: Final = [{"role": "user", "content": ASK}]
VLLM_FIRST: Final = {"LLM_MODE": "vllm", "LLM_MODEL": "tiny", "VLLM_MODEL": "tiny"}
BODIES: Final[dict[str, Any]] = {
    "/chat": {"message": ASK},
    "/api/v1/chat": {"message": ASK},
    "/v1/chat/completions": {"model": "tiny", "messages": MESSAGES},
    "/v1/responses": {"model": "tiny", "input": ASK},
    "/v1/messages": {"model": "tiny", "messages": MESSAGES, "max_tokens": 10},
    "/api/chat": {"model": "tiny", "messages": MESSAGES},
    "/api/generate": {"model": "tiny", "prompt": ASK},
    "/api/embed": {"model": "tiny", "input": ASK},
    "/api/chat/send": {"content": ASK},
}


def both(vllm: str, ollama: str) -> str:
    return f"llm: {{providers: {{vllm: {{url: '{vllm}'}}, ollama: {{base_url: '{ollama}'}}}}}}\n"


def test_the_ollama_pool_replaces_vllm_with_a_warning(simulators: Simulators, tmp_path: Path) -> None:
    pool = simulators.start(SimOptions.instant("ollama", "llama3.1:8b", text=SIM_TEXT))
    with run_gateway_process(tmp_path / "gateway", both(DOWN, pool.url), variables=VLLM_FIRST) as running:
        for route in ("/chat", "/api/v1/chat"):
            answer = running.post(route, {"message": ASK})
            body = answer.json()
            assert (body.get("response") or body["message"]) == SIM_TEXT
            assert "vLLM" in body["warning"]
            assert "llama3.1:8b" in body["warning"]
            assert (body["metadata"]["provider"], body["metadata"]["fallback"]) == ("ollama", True)
            assert answer.headers["x-penstock-fallback"] == "true"
        running.wait_for_line("Distributed routing: llama3.1:8b @ primary (fallback: True)")
        assert running.get("/health").json()["status"] == "degraded"
    simulators.stop(pool)


@pytest.mark.engine("vllm")
def test_vllm_that_is_up_answers_all_calls(vllm: Running, simulators: Simulators, tmp_path: Path) -> None:
    pool = simulators.start(SimOptions.instant("ollama", "tiny", text=SIM_TEXT))
    with run_gateway_process(tmp_path / "gateway", both(vllm.url, pool.url), variables=VLLM_FIRST) as running:
        body = running.post("/chat", {"message": ASK, "max_tokens": 100}).json()
        assert (body["response"], body["metadata"]["provider"], body.get("warning")) == (SENTENCE, "vllm", None)
        assert pool.counters.started == 0
    simulators.stop(pool)


def test_a_vllm_that_fails_before_its_first_byte_is_replaced(simulators: Simulators, tmp_path: Path) -> None:
    broken = simulators.start(SimOptions.instant("vllm", "tiny"))
    pool = simulators.start(SimOptions.instant("ollama", "tiny", text=SIM_TEXT))
    with run_gateway_process(tmp_path / "gateway", both(broken.url, pool.url), variables=VLLM_FIRST) as running:
        simulators.stop(broken)
        body = running.post("/chat", {"message": ASK}).json()
        assert (body["response"], body["metadata"]["provider"], body["metadata"]["fallback"]) == (
            SIM_TEXT,
            "ollama",
            True,
        )
        assert body["warning"] == "vLLM cannot answer; tiny:latest of the Ollama pool answered"
        assert body["metadata"]["reason"] == "another server failed"
    simulators.stop(pool)


def test_another_model_that_answers_is_named(simulators: Simulators, tmp_path: Path) -> None:
    broken = simulators.start(SimOptions.instant("ollama", "gemma3:1b", text=SIM_TEXT))
    good = simulators.start(SimOptions.instant("ollama", "mistral:7b", text=SIM_TEXT))
    servers = f"additional_servers: [{{name: good, url: '{good.url}'}}]"
    settings = f"llm: {{providers: {{ollama: {{base_url: '{broken.url}', {servers}}}}}}}\n"
    with run_gateway_process(tmp_path / "gateway", settings) as running:
        simulators.stop(broken)
        body = running.post("/chat", {"message": ASK}).json()
        assert (body["response"], body["model"]) == (SIM_TEXT, "mistral:7b")
        assert body["metadata"]["fallback"] is True
        assert body["metadata"]["server_used"] == good.url
    simulators.stop(good)


@pytest.mark.engine("llamacpp")
def test_llm_mode_none_is_reported_by_every_api(llama_a: Running, tmp_path: Path) -> None:
    settings = render_settings("llamacpp", llama_a.url)
    with run_gateway_process(tmp_path / "gateway", settings, variables={"LLM_MODE": "none"}) as running:
        for route, body in BODIES.items():
            answer = running.post(route, body)
            assert answer.status_code == 503, route
            assert "LLM_MODE" in answer.text, route
        assert running.post("/chat", BODIES["/chat"]).json()["error"]["code"] == "llm_disabled"
        assert running.post("/v1/chat/completions", BODIES["/v1/chat/completions"]).json()["error"]["code"] == (
            "llm_disabled"
        )
        assert running.get("/health").json()["status"] == "disabled"


def test_models_are_found_by_name_by_alias_and_without_their_tag(simulators: Simulators, tmp_path: Path) -> None:
    engine = simulators.start(
        SimOptions.instant("ollama", "bge-m3:latest", "gemma3:1b", "mistral:latest", text=SIM_TEXT)
    )
    settings = f"llm: {{providers: {{ollama: {{base_url: '{engine.url}'}}}}}}\n"
    settings += 'models: {aliases: {"house-model": ["gemma3:1b"]}}\n'
    with run_gateway_process(tmp_path / "gateway", settings) as running:
        for name in ("gemma3:1b", "GEMMA3:1B", "house-model", "mistral", "mistral:latest"):
            for route in ("/v1/chat/completions", "/api/chat"):
                answer = running.post(route, {"model": name, "messages": MESSAGES, "stream": False})
                assert (answer.status_code, SIM_TEXT in answer.text) == (200, True), (name, route)
        answer = running.post("/v1/chat/completions", {"model": "gema3:1b", "messages": MESSAGES})
        assert answer.status_code == 404
        assert "gemma3:1b" in answer.json()["error"]["message"]
        assert "bge-m3" not in answer.json()["error"]["message"]
    simulators.stop(engine)


@pytest.mark.engine("llamacpp")
async def test_two_servers_with_one_model_share_the_load(llama_a: Running, llama_b: Running, tmp_path: Path) -> None:
    body = {"model": "tiny", "messages": MESSAGES, "max_tokens": 60, "ignore_eos": True}
    with run_gateway_process(tmp_path / "gateway", render_settings("llamacpp", llama_a.url, llama_b.url)) as running:
        async with httpx.AsyncClient(base_url=running.url, trust_env=False, timeout=60) as client:
            answers = await asyncio.gather(*(client.post("/v1/chat/completions", json=body) for _ in range(24)))
    assert {answer.status_code for answer in answers} == {200}
    shares = Counter(answer.headers["x-penstock-server"] for answer in answers)
    assert min(shares["llamacpp1"], shares["llamacpp2"]) >= 8, shares


@pytest.mark.engine("llamacpp")
@pytest.mark.usefixtures("llama_a")  # skips where llama.cpp is not installed
async def test_killing_a_server_shows_no_client_an_error_before_its_first_byte(tmp_path: Path) -> None:
    long = {"model": "tiny", "messages": MESSAGES, "max_tokens": 200, "ignore_eos": True}
    with (
        llama_server() as doomed,
        llama_server() as other,
        run_gateway_process(tmp_path / "gateway", render_settings("llamacpp", doomed.url, other.url)) as running,
    ):
        async with httpx.AsyncClient(base_url=running.url, trust_env=False, timeout=60) as client:
            streamed, unstreamed = asyncio.Event(), asyncio.Event()
            calls = [
                asyncio.create_task(_post_streamed(client, {**long, "stream": True}, streamed))
                if number % 2
                else asyncio.create_task(_post_unstreamed(client, long, unstreamed))
                for number in range(50)
            ]
            await streamed.wait()
            await unstreamed.wait()
            doomed.process.send_signal(signal.SIGKILL)
            outcomes = Counter(await asyncio.gather(*calls))
        running.wait_for_line("Server llamacpp1 is down")
        servers = running.list_servers()
        assert [servers[name]["running"] for name in ("llamacpp1", "llamacpp2")] == [0, 0]
    assert outcomes["unstreamed"] == 25
    assert outcomes["streamed"] + outcomes["cut after its first byte"] == 25, outcomes
    assert outcomes["cut after its first byte"] <= 2  # as many as the dead server had slots


async def _post_unstreamed(client: httpx.AsyncClient, body: dict[str, Any], one_is_done: asyncio.Event) -> str:
    answer = await client.post("/v1/chat/completions", json=body)
    one_is_done.set()
    if answer.status_code != 200:
        return answer.text
    assert answer.json()["usage"]["completion_tokens"] == 200
    return "unstreamed"


async def _post_streamed(client: httpx.AsyncClient, body: dict[str, Any], first_started: asyncio.Event) -> str:
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        if response.status_code != 200:
            return (await response.aread()).decode()
        lines = []
        async for line in response.aiter_lines():
            lines.append(line)
            first_started.set()
    events = [line for line in lines if line.startswith("data: ")]
    if events[-1] == "data: [DONE]":
        return "streamed"
    return "cut after its first byte" if '"error"' in events[-1] and len(events) > 1 else "\n".join(events)


@pytest.mark.engine("llamacpp")
@pytest.mark.usefixtures("llama_a")
def test_a_server_that_recovers_is_used_again(tmp_path: Path) -> None:
    with (
        llama_server() as first,
        run_gateway_process(tmp_path / "gateway", render_settings("llamacpp", first.url)) as running,
    ):
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
        assert running.post("/v1/chat/completions", BODIES["/v1/chat/completions"]).status_code == 503
        with llama_server(port=first.port):
            wait_until(lambda: ask_chat(running) == SENTENCE, 10, "the server that came back is not used")


def ask_chat(running: Gateway) -> object:
    return running.post("/chat", {"message": ASK}).json()["response"]
