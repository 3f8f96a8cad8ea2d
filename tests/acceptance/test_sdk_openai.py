"""OpenAI's own Python client, with each engine."""

import base64
import json
import struct
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import httpx
import openai
import pytest
import pytest_asyncio

from penstock.sim import Simulator
from tests.acceptance.conftest import EMBEDDER, Target, able_to, every_engine, targets
from tests.support.gateway_process import ASK, Gateway, render_settings, run_gateway_process
from tests.support.real_engines import TOOL_NAME

MESSAGES: Final[Any] = [{"role": "user", "content": ASK}]
PARAMETERS: Final = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL: Final[Any] = {
    "type": "function",
    "function": {"name": TOOL_NAME, "description": "The weather in a city", "parameters": PARAMETERS},
}
SCHEMA: Final = {
    "type": "object",
    "properties": {"sunny": {"type": "boolean"}},
    "required": ["sunny"],
    "additionalProperties": False,
}


@pytest.fixture
def client(target: Target) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{target.url}/v1", api_key="any", max_retries=0, timeout=60) as client:
        yield client


@pytest_asyncio.fixture
async def aclient(target: Target) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{target.url}/v1", api_key="any", max_retries=0, timeout=60) as client:
        yield client


@every_engine
def test_chats_with_the_engines_text(client: openai.OpenAI, target: Target) -> None:
    answer = client.chat.completions.create(model=target.model, messages=MESSAGES)
    assert answer.choices[0].message.content == target.text
    assert (answer.choices[0].finish_reason, answer.choices[0].message.role) == ("stop", "assistant")
    assert answer.model == target.model
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 0 < answer.usage.completion_tokens
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


@every_engine
def test_streams_the_engines_text_in_pieces_with_usage_at_the_end(client: openai.OpenAI, target: Target) -> None:
    options: Any = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(model=target.model, messages=MESSAGES, stream=True, stream_options=options)
    )
    deltas = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(deltas) == target.text
    assert len([delta for delta in deltas if delta]) > 10
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == ["stop"]
    usage = chunks[-1].usage
    assert not chunks[-1].choices
    assert usage is not None
    assert usage.prompt_tokens > 0 < usage.completion_tokens


@every_engine
def test_streams_without_usage_unless_requested(client: openai.OpenAI, target: Target) -> None:
    chunks = list(client.chat.completions.create(model=target.model, messages=MESSAGES, stream=True))
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)


@every_engine
async def test_the_asynchronous_client_gets_the_same(aclient: openai.AsyncOpenAI, target: Target) -> None:
    answer = await aclient.chat.completions.create(model=target.model, messages=MESSAGES)
    assert answer.choices[0].message.content == target.text
    stream = await aclient.chat.completions.create(model=target.model, messages=MESSAGES, stream=True)
    assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]) == target.text


@every_engine
def test_a_stream_helper_of_the_client_understands_the_stream(client: openai.OpenAI, target: Target) -> None:
    with client.chat.completions.stream(model=target.model, messages=MESSAGES) as stream:
        text = "".join(event.delta for event in stream if event.type == "content.delta")
        final = stream.get_final_completion()
    assert text == final.choices[0].message.content == target.text


@able_to("completion")
def test_auto_is_answered_under_the_name_of_the_model_that_answered(client: openai.OpenAI, target: Target) -> None:
    answer = client.chat.completions.create(model="auto", messages=MESSAGES)
    assert (answer.model, answer.choices[0].message.content) == (target.model, target.text)
    for chunk in client.chat.completions.create(model="auto", messages=MESSAGES, stream=True):
        assert chunk.model == target.model


@every_engine
def test_every_response_has_a_request_id_that_the_client_can_read(client: openai.OpenAI, target: Target) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model=target.model, messages=MESSAGES, extra_headers={"x-request-id": "mine-1"}
    )
    assert (raw.request_id, raw.headers["x-penstock-model"]) == ("mine-1", target.model)
    with pytest.raises(openai.NotFoundError) as failure:
        client.chat.completions.create(model="none-of-them", messages=MESSAGES)
    assert failure.value.request_id


@able_to("tools")
def test_calls_a_tool_and_responds_after_its_result(client: openai.OpenAI, target: Target) -> None:
    answer = client.chat.completions.create(model=target.model, messages=MESSAGES, tools=[TOOL])
    (choice,) = answer.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments).keys()) == (TOOL_NAME, {"city"})
    messages: Any = [*MESSAGES, choice.message, {"role": "tool", "tool_call_id": call.id, "content": "солнечно"}]
    after = client.chat.completions.create(model=target.model, messages=messages, tools=[TOOL])
    assert after.choices[0].message.content == target.text
    assert after.choices[0].finish_reason == "stop"


@able_to("tools")
def test_streams_a_complete_tool_call_in_fragments(client: openai.OpenAI, target: Target) -> None:
    unstreamed = client.chat.completions.create(model=target.model, messages=MESSAGES, tools=[TOOL]).choices[0].message
    with client.chat.completions.stream(model=target.model, messages=MESSAGES, tools=[TOOL]) as stream:
        pieces = [event.arguments_delta for event in stream if event.type == "tool_calls.function.arguments.delta"]
        final = stream.get_final_completion().choices[0]
    assert final.finish_reason == "tool_calls"
    assert final.message.tool_calls is not None
    assert unstreamed.tool_calls is not None
    ((call,), (expected,)) = (final.message.tool_calls, unstreamed.tool_calls)
    assert expected.type == "function"
    assert call.id
    assert (call.function.name, call.function.arguments) == (expected.function.name, expected.function.arguments)
    assert "".join(pieces) == call.function.arguments
    assert len(pieces) > 1 if target.title in ("llama.cpp", "vLLM") else len(pieces) == 1


@able_to("schema")
def test_follows_a_json_schema(client: openai.OpenAI, target: Target) -> None:
    form: Any = {"type": "json_schema", "json_schema": {"name": "weather", "strict": True, "schema": SCHEMA}}
    answer = client.chat.completions.create(
        model=target.model, messages=MESSAGES, response_format=form, temperature=0, max_tokens=60
    )
    content = json.loads(answer.choices[0].message.content or "")
    assert content.keys() == {"sunny"}
    assert isinstance(content["sunny"], bool)


@able_to("stop")
def test_stops_at_a_stop_sequence(client: openai.OpenAI, target: Target) -> None:
    answer = client.chat.completions.create(model=target.model, messages=MESSAGES, stop=["мир"])
    assert answer.choices[0].message.content == target.text.partition("мир")[0]
    assert answer.choices[0].finish_reason == "stop"


@able_to("seed")
def test_takes_a_seed(client: openai.OpenAI, target: Target) -> None:
    answers = [
        client.chat.completions.create(model=target.model, messages=MESSAGES, seed=7, temperature=1.0) for _ in range(2)
    ]
    assert [answer.choices[0].message.content for answer in answers] == [target.text, target.text]


@able_to("length")
@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
def test_a_token_limit_ends_the_response_with_that_reason(client: openai.OpenAI, target: Target, limit: str) -> None:
    asked: dict[str, Any] = {limit: 3}
    answer = client.chat.completions.create(model=target.model, messages=MESSAGES, **asked)
    text = answer.choices[0].message.content or ""
    assert 0 < len(text) < 20
    assert target.text.startswith(text)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3


@able_to("logprobs")
def test_returns_log_probabilities(client: openai.OpenAI, target: Target) -> None:
    asked: dict[str, Any] = {"logprobs": True, "top_logprobs": 2, "max_tokens": 2}
    choice = client.chat.completions.create(model=target.model, messages=MESSAGES, **asked).choices[0]
    assert choice.logprobs is not None
    tokens = choice.logprobs.content or []
    assert len(tokens) == 2
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 2 for token in tokens)


@able_to("streamed logprobs")
def test_returns_log_probabilities_in_a_stream(client: openai.OpenAI, target: Target) -> None:
    asked: dict[str, Any] = {"logprobs": True, "top_logprobs": 2, "max_tokens": 2}
    stream = client.chat.completions.create(model=target.model, messages=MESSAGES, stream=True, **asked)
    found = [choice.logprobs.content or [] for chunk in stream for choice in chunk.choices if choice.logprobs]
    tokens = [token for several in found for token in several]
    assert target.text.startswith("".join(token.token for token in tokens))
    assert [len(token.top_logprobs) for token in tokens] == [2, 2]


@able_to("completion")
def test_completes_a_prompt_unstreamed_and_streamed(client: openai.OpenAI, target: Target) -> None:
    answer = client.completions.create(model=target.model, prompt=ASK, max_tokens=200)
    assert answer.choices[0].text == target.text
    stream = client.completions.create(model=target.model, prompt=ASK, max_tokens=200, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream if chunk.choices) == target.text


@every_engine
def test_responds(client: openai.OpenAI, target: Target) -> None:
    answer = client.responses.create(model=target.model, input=ASK)
    assert (answer.output_text, answer.status) == (target.text, "completed")
    assert answer.usage is not None
    assert answer.usage.input_tokens > 0 < answer.usage.output_tokens


@every_engine
async def test_responds_event_by_event(aclient: openai.AsyncOpenAI, target: Target) -> None:
    text, kinds = "", []
    async with aclient.responses.stream(model=target.model, input=ASK) as stream:
        async for event in stream:
            kinds.append(event.type)
            text += event.delta if event.type == "response.output_text.delta" else ""
        final = await stream.get_final_response()
    assert text == final.output_text == target.text
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    assert final.usage is not None
    assert final.usage.output_tokens > 0


@able_to("tools")
def test_responds_with_a_tool_call_and_after_its_result(client: openai.OpenAI, target: Target) -> None:
    tool: Any = {"type": "function", "strict": False, **TOOL["function"]}
    (call,) = client.responses.create(model=target.model, input=ASK, tools=[tool]).output
    assert call.type == "function_call"
    assert (call.name, json.loads(call.arguments).keys()) == (TOOL_NAME, {"city"})
    messages: Any = [*MESSAGES, call, {"type": "function_call_output", "call_id": call.call_id, "output": "солнечно"}]
    assert client.responses.create(model=target.model, input=messages, tools=[tool]).output_text == target.text
    with client.responses.stream(model=target.model, input=ASK, tools=[tool]) as stream:
        pieces = [event.delta for event in stream if event.type == "response.function_call_arguments.delta"]
        (streamed,) = stream.get_final_response().output
    assert streamed.type == "function_call"
    assert "".join(pieces) == streamed.arguments == call.arguments


@every_engine
def test_lists_and_finds_the_model(client: openai.OpenAI, target: Target) -> None:
    assert target.model in [model.id for model in client.models.list()]
    assert client.models.retrieve(target.model).id == target.model


@every_engine
def test_an_unknown_model_is_not_found_and_the_nearest_are_named(client: openai.OpenAI, target: Target) -> None:
    with pytest.raises(openai.NotFoundError) as failure:
        client.chat.completions.create(model=f"{target.model}x", messages=MESSAGES)
    assert (failure.value.code, failure.value.param) == ("model_not_found", "model")
    assert target.model in failure.value.message
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve(f"{target.model}x")


@every_engine
def test_a_wrong_type_is_a_bad_request_that_names_the_field(client: openai.OpenAI, target: Target) -> None:
    wrong: Any = "hot"
    with pytest.raises(openai.BadRequestError) as failure:
        client.chat.completions.create(model=target.model, messages=MESSAGES, temperature=wrong)
    assert "temperature" in failure.value.message


@targets(["mlx_sim", "victoria_sim"])
@pytest.mark.parametrize(
    "asked",
    [
        {"tools": [TOOL]},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}},
        {"stop": ["мир"]},
        {"logprobs": True},
    ],
)
def test_an_unsupported_feature_is_refused_with_the_name_of_the_engine(
    client: openai.OpenAI, target: Target, asked: dict[str, Any]
) -> None:
    with pytest.raises(openai.BadRequestError) as failure:
        client.chat.completions.create(model=target.model, messages=MESSAGES, **asked)
    assert failure.value.code == "unsupported"
    assert target.title in failure.value.message


@pytest.mark.engine("llamacpp")
def test_embeds_on_llama_cpp_as_the_server_itself_does(embedder: Target) -> None:
    texts = ["one text", "другой текст"]
    with (
        openai.OpenAI(base_url=f"{embedder.url}/v1", api_key="any", max_retries=0) as client,
        openai.OpenAI(base_url=f"{embedder.direct}/v1", api_key="any", max_retries=0) as direct,
    ):
        through = client.embeddings.create(model=embedder.model, input=texts)
        expected = direct.embeddings.create(model=embedder.model, input=texts)
    assert [row.embedding for row in through.data] == [row.embedding for row in expected.data]
    assert [row.index for row in through.data] == [0, 1]
    assert through.usage.prompt_tokens > 0


def _decode_floats(vector: list[float] | str) -> list[float]:
    """Decode a vector: the client does not decode base64 if the test requested it by name."""
    if not isinstance(vector, str):
        return vector
    data = base64.b64decode(vector, validate=True)
    return list(struct.unpack(f"<{len(data) // 4}f", data))


@pytest.mark.parametrize("form", ["float", "base64", None])
def test_embeds_on_ollama(ollama_sim: Target, form: Any) -> None:
    asked = {} if form is None else {"encoding_format": form}
    with openai.OpenAI(base_url=f"{ollama_sim.url}/v1", api_key="any", max_retries=0) as client:
        answer = client.embeddings.create(model=EMBEDDER, input=["one", "два"], **asked)
    one, other = (_decode_floats(row.embedding) for row in answer.data)
    assert len(one) == len(other)
    assert one != other
    direct = httpx.post(f"{ollama_sim.direct}/api/embed", json={"model": EMBEDDER, "input": "one"}, trust_env=False)
    assert one == pytest.approx(direct.json()["embeddings"][0], abs=1e-6)


def test_an_embedding_model_behind_vllm_embeds_with_unchanged_bytes(
    sim_vllm_embeddings: Simulator, tmp_path_factory: pytest.TempPathFactory
) -> None:
    settings = render_settings("vllm", sim_vllm_embeddings.url)
    with (
        run_gateway_process(tmp_path_factory.mktemp("vllm-embeddings"), settings) as running,
        openai.OpenAI(base_url=f"{running.url}/v1", api_key="any", max_retries=0) as client,
        openai.OpenAI(base_url=f"{sim_vllm_embeddings.url}/v1", api_key="any", max_retries=0) as direct,
    ):
        through = client.embeddings.create(model="BAAI/bge-m3", input=["one", "два"])
        expected = direct.embeddings.create(model="BAAI/bge-m3", input=["one", "два"])
    assert [row.embedding for row in through.data] == [row.embedding for row in expected.data]


def test_an_unreachable_server_is_503_with_its_address_and_what_to_check(away: Gateway) -> None:
    with (
        openai.OpenAI(base_url=f"{away.url}/v1", api_key="any", max_retries=0) as client,
        pytest.raises(openai.InternalServerError) as failure,
    ):
        client.chat.completions.create(model="tiny", messages=MESSAGES)
    assert (failure.value.status_code, failure.value.code) == (503, "no_server")
    assert "127.0.0.1:9" in failure.value.message
    assert "penstock.yaml" in failure.value.message
