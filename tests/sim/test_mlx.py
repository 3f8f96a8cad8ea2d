"""The MLX API server: its own rules on Ollama's paths."""

from typing import Any

import pytest

from penstock.sim import SimOptions, Simulator
from tests.sim.client import Line, ask, until

SMALL, LARGE = "mlx-community/Qwen2.5-1.5B-Instruct-4bit", "mlx-community/Qwen2.5-7B-Instruct-4bit"


@pytest.fixture
def options() -> SimOptions:
    return SimOptions.instant("mlx", LARGE, SMALL)


async def generate(server: Simulator, **body: Any) -> Any:
    return await ask(server.url, "POST", "/api/generate", {"prompt": "hi", **body})


async def test_generate_answers_in_three_keys_without_counts(options: SimOptions) -> None:
    async with Simulator(options) as server:
        answer = await generate(server)
    assert list(answer.json) == ["model", "response", "done"]
    assert answer.json["model"] == LARGE
    assert "hi" in answer.json["response"]


async def test_a_stream_is_lines_of_json_that_call_themselves_json(options: SimOptions) -> None:
    async with Simulator(options) as server:
        whole = (await generate(server)).json["response"]
        answer = await generate(server, stream=True)
    assert answer.header("content-type") == "application/json"
    assert "".join(line["response"] for line in answer.lines) == whole
    assert [line["done"] for line in answer.lines].count(True) == 1


async def test_max_tokens_stands_at_the_top(options: SimOptions) -> None:
    async with Simulator(options) as server:
        answer = await generate(server, max_tokens=2, options={"num_predict": 9})
    assert answer.json["response"] == "You said"


async def test_a_category_chooses_where_no_model_is_named(options: SimOptions) -> None:
    async with Simulator(options) as server:
        assert (await generate(server, category="fast")).json["model"] == SMALL
        assert (await generate(server, model="nope")).status == 404


async def test_chat_answers_with_a_message(options: SimOptions) -> None:
    async with Simulator(options) as server:
        body = {"model": SMALL, "messages": [{"role": "user", "content": "Привет"}]}
        answer = await ask(server.url, "POST", "/api/chat", body)
    assert answer.json["message"]["role"] == "assistant"
    assert "«Привет»" in answer.json["message"]["content"]


async def test_tags_and_health_tell_of_models_and_load(options: SimOptions) -> None:
    async with Simulator(options) as server:
        tags = (await ask(server.url, "GET", "/api/tags")).json
        health = (await ask(server.url, "GET", "/health")).json
        queue = (await ask(server.url, "GET", "/queue/stats")).json
    assert [model["name"] for model in tags["models"]] == [LARGE, SMALL]
    assert health["status"] == "healthy"
    assert (queue["queue_size"], queue["max_concurrent"]) == (0, 2)


@pytest.mark.parametrize(("priority", "status"), [("high", 503), ("low", 429), (None, 429)])
async def test_a_full_queue_is_429_or_503_by_priority_and_health_is_critical(priority: str | None, status: int) -> None:
    options = SimOptions("mlx", models=(SMALL,), slots=1, load_seconds=0, tokens_per_second=0.1, queue_limit=1)
    async with Simulator(options) as server:
        lines = [await Line.to(server.url) for _ in range(2)]
        for line in lines:
            await line.send("POST", "/api/generate", {"prompt": "hi"})
        await until(lambda: (server.running, server.waiting) == (1, 1))
        health = (await ask(server.url, "GET", "/health")).json
        headers = {"X-Request-Priority": priority} if priority else {}
        answer = await ask(server.url, "POST", "/api/generate", {"prompt": "hi"}, headers=headers)
        for line in lines:
            await line.close()
    assert health["status"] == "critical"
    assert (answer.status, answer.header("retry-after")) == (status, "5")


@pytest.mark.parametrize("body", [b"{", {}, {"prompt": 5}, []])
async def test_a_bad_request_is_422_with_its_place(options: SimOptions, body: Any) -> None:
    async with Simulator(options) as server:
        answer = await ask(server.url, "POST", "/api/generate", body)
    assert answer.status == 422
    assert answer.json["detail"][0]["loc"][0] == "body"
