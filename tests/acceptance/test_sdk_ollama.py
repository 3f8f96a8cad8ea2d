"""Ollama's own Python client, with each engine."""

from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import msgspec
import ollama
import pytest
import pytest_asyncio

from tests.acceptance.conftest import EMBEDDER, Target, able_to, every_engine, targets
from tests.support.gateway_process import ASK, Gateway
from tests.support.real_engines import TOOL_NAME

MESSAGES: Final[Any] = [{"role": "user", "content": ASK}]
PARAMETERS: Final = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL: Final[Any] = {
    "type": "function",
    "function": {"name": TOOL_NAME, "description": "The weather in a city", "parameters": PARAMETERS},
}
SCHEMA: Final[Any] = {
    "type": "object",
    "properties": {"sunny": {"type": "boolean"}},
    "required": ["sunny"],
    "additionalProperties": False,
}
MODELS: Final = tuple(name for name in ("llamacpp", "mlx_lm", "vllm_cpu", "ollama_sim", "mlx_sim"))


@pytest.fixture
def client(target: Target) -> Iterator[ollama.Client]:
    with ollama.Client(host=target.url, timeout=60) as client:
        yield client


@pytest_asyncio.fixture
async def aclient(target: Target) -> AsyncIterator[ollama.AsyncClient]:
    async with ollama.AsyncClient(host=target.url, timeout=60) as client:
        yield client


@every_engine
def test_chats_with_the_engines_text(client: ollama.Client, target: Target) -> None:
    answer = client.chat(model=target.model, messages=MESSAGES)
    assert answer.message.content == target.text
    assert (answer.message.role, answer.done, answer.done_reason) == ("assistant", True, "stop")
    assert answer.model == target.model
    assert (answer.prompt_eval_count or 0) > 0 < (answer.eval_count or 0)
    assert (answer.total_duration or 0) > 0


@every_engine
def test_streams_the_engines_text(client: ollama.Client, target: Target) -> None:
    lines = list(client.chat(model=target.model, messages=MESSAGES, stream=True))
    assert "".join(line.message.content or "" for line in lines) == target.text
    assert len(lines) > 10
    assert [line.done for line in lines] == [False] * (len(lines) - 1) + [True]
    assert lines[-1].done_reason == "stop"
    assert (lines[-1].prompt_eval_count or 0) > 0 < (lines[-1].eval_count or 0)


@every_engine
async def test_the_asynchronous_client_gets_the_same(aclient: ollama.AsyncClient, target: Target) -> None:
    answer = await aclient.chat(model=target.model, messages=MESSAGES)
    assert answer.message.content == target.text
    stream = await aclient.chat(model=target.model, messages=MESSAGES, stream=True)
    assert "".join([line.message.content or "" async for line in stream]) == target.text


@able_to("tools")
def test_calls_a_tool_and_responds_after_its_result(client: ollama.Client, target: Target) -> None:
    answer = client.chat(model=target.model, messages=MESSAGES, tools=[TOOL])
    assert answer.message.tool_calls is not None
    (call,) = answer.message.tool_calls
    assert (call.function.name, call.function.arguments.keys()) == (TOOL_NAME, {"city"})
    assert answer.done_reason == "stop"
    messages = [*MESSAGES, answer.message, {"role": "tool", "tool_name": TOOL_NAME, "content": "солнечно"}]
    assert client.chat(model=target.model, messages=messages, tools=[TOOL]).message.content == target.text


@able_to("tools")
async def test_streams_a_tool_call_in_one_piece(aclient: ollama.AsyncClient, target: Target) -> None:
    (unstreamed,) = (await aclient.chat(model=target.model, messages=MESSAGES, tools=[TOOL])).message.tool_calls or []
    stream = await aclient.chat(model=target.model, messages=MESSAGES, tools=[TOOL], stream=True)
    calls = [call async for line in stream for call in line.message.tool_calls or []]
    assert [call.function for call in calls] == [unstreamed.function]


@able_to("schema")
def test_follows_a_json_schema(client: ollama.Client, target: Target) -> None:
    answer = client.chat(
        model=target.model, messages=MESSAGES, format=SCHEMA, options={"temperature": 0, "num_predict": 60}
    )
    content = msgspec.json.decode(answer.message.content or "", type=dict[str, bool])
    assert content.keys() == {"sunny"}


@able_to("stop", "length")
def test_options_are_applied(client: ollama.Client, target: Target) -> None:
    stopped = client.chat(model=target.model, messages=MESSAGES, options={"stop": ["мир"], "seed": 1, "top_k": 10})
    assert (stopped.message.content, stopped.done_reason) == (target.text.partition("мир")[0], "stop")
    cut = client.chat(model=target.model, messages=MESSAGES, options={"num_predict": 3, "temperature": 0})
    assert (cut.done_reason, cut.eval_count) == ("length", 3)
    assert target.text.startswith(cut.message.content or "?")


@able_to("logprobs")
def test_returns_log_probabilities(client: ollama.Client, target: Target) -> None:
    asked: dict[str, Any] = {"logprobs": True, "top_logprobs": 2, "options": {"num_predict": 2}}
    answer = client.chat(model=target.model, messages=MESSAGES, **asked)
    assert answer.logprobs is not None
    assert [len(token.top_logprobs or []) for token in answer.logprobs] == [2, 2]


@targets(MODELS)
def test_generates_unstreamed_and_streamed(client: ollama.Client, target: Target) -> None:
    answer = client.generate(model=target.model, prompt=ASK)
    assert (answer.response, answer.done) == (target.text, True)
    lines = list(client.generate(model=target.model, prompt=ASK, stream=True))
    assert "".join(line.response for line in lines) == target.text
    assert lines[-1].done


@able_to("completion", "length")
def test_generates_from_a_raw_prompt_without_a_limit_of_its_own(client: ollama.Client, target: Target) -> None:
    answer = client.generate(model=target.model, prompt=ASK, raw=True)
    assert (answer.response, answer.done_reason) == (target.text, "stop")


@targets(MODELS)
def test_lists_and_describes_models_and_loaded_ones(client: ollama.Client, target: Target) -> None:
    listed = {(model.model or "").removesuffix(":latest"): model for model in client.list().models}
    assert target.model in listed
    assert len(listed[target.model].digest or "") == 64
    details = client.show(target.model)
    assert "completion" in (details.capabilities or [])
    assert details.details is not None
    assert all(model.model for model in client.ps().models)


@targets(["llamacpp"])
def test_a_llama_cpp_model_is_described_correctly(client: ollama.Client, target: Target) -> None:
    details = client.show(target.model)
    assert {"completion", "tools"} <= set(details.capabilities or [])
    assert details.modelinfo is not None
    assert 32_768 in details.modelinfo.values()
    (running,) = client.ps().models
    assert (running.model or "").removesuffix(":latest") == target.model
    assert running.context_length == 32_768


@every_engine
def test_the_version_is_one_that_clients_accept(target: Target) -> None:
    version = target.gateway.get("/api/version").json()["version"]
    assert [part.isdigit() for part in version.split(".")] == [True, True, True]


@every_engine
def test_an_unknown_model_is_not_found_and_the_nearest_are_named(client: ollama.Client, target: Target) -> None:
    with pytest.raises(ollama.ResponseError) as failure:
        client.chat(model=f"{target.model}x", messages=MESSAGES)
    assert failure.value.status_code == 404
    assert target.model in failure.value.error
    with pytest.raises(ollama.ResponseError) as streamed:
        list(client.chat(model=f"{target.model}x", messages=MESSAGES, stream=True))
    assert streamed.value.status_code == 404


@every_engine
def test_a_wrong_type_is_a_bad_request(target: Target) -> None:
    answer = target.gateway.post("/api/chat", {"model": target.model, "messages": "hello"})
    assert answer.status_code == 400
    assert "messages" in answer.json()["error"]


@targets(["mlx_sim", "victoria_sim"])
@pytest.mark.parametrize("asked", [{"tools": [TOOL]}, {"format": SCHEMA}, {"options": {"stop": ["мир"]}}])
def test_an_unsupported_feature_is_refused_with_the_name_of_the_engine(
    client: ollama.Client, target: Target, asked: dict[str, Any]
) -> None:
    with pytest.raises(ollama.ResponseError) as failure:
        client.chat(model=target.model, messages=MESSAGES, **asked)
    assert failure.value.status_code == 400
    assert target.title in failure.value.error


@targets(["ollama_sim"])
def test_ollama_itself_gets_and_answers_the_same_bytes(target: Target) -> None:
    body = {"model": target.model, "messages": MESSAGES, "stream": False, "options": {"temperature": 0}}
    with target.gateway.http as through:
        answer = through.post("/api/chat", json=body).json()
        expected = through.post(f"{target.direct}/api/chat", json=body).json()
    assert answer["message"] == expected["message"]
    assert list(answer) == list(expected)


@targets(["ollama_sim"])
def test_embeds_on_ollama(client: ollama.Client, target: Target) -> None:
    one, other = client.embed(model=EMBEDDER, input=["one", "два"]).embeddings
    assert len(one) == len(other)
    assert one != other
    assert list(client.embeddings(model=EMBEDDER, prompt="one").embedding) == pytest.approx(list(one))


@pytest.mark.engine("llamacpp")
def test_embeds_on_llama_cpp(embedder: Target) -> None:
    with ollama.Client(host=embedder.url) as client:
        one, other = client.embed(model=embedder.model, input=["one text", "другой текст"]).embeddings
    assert len(one) == len(other) == 128
    assert one != other


@targets(["ollama_sim"])
def test_pulls_a_model_with_progress_and_lists_it(client: ollama.Client, target: Target) -> None:
    statuses = [line.status for line in client.pull("gemma3:1b", stream=True)]
    assert (statuses[0], statuses[-1]) == ("pulling manifest", "success")
    assert client.chat(model="gemma3:1b", messages=MESSAGES).message.content == target.text
    client.copy("gemma3:1b", "mine")
    assert client.chat(model="mine", messages=MESSAGES).message.content == target.text
    assert client.show("mine").modelinfo is not None
    for name in ("mine", "gemma3:1b"):
        assert client.delete(name).status == "success"
    with pytest.raises(ollama.ResponseError) as failure:
        client.chat(model="mine", messages=MESSAGES)
    assert failure.value.status_code == 404


@targets(["llamacpp"])
def test_a_pull_without_an_ollama_is_refused(client: ollama.Client, target: Target) -> None:
    with pytest.raises(ollama.ResponseError) as failure:
        client.pull("gemma3:1b")
    assert failure.value.status_code == 503
    assert "Ollama" in failure.value.error or "ollama" in failure.value.error


def test_an_unreachable_server_is_503_with_its_address(away: Gateway) -> None:
    with ollama.Client(host=away.url) as client, pytest.raises(ollama.ResponseError) as failure:
        client.chat(model="llama3.1:8b", messages=MESSAGES)
    assert failure.value.status_code == 503
    assert "127.0.0.1:9" in failure.value.error
