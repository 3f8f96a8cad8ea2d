"""Anthropic's own Python client, with each engine."""

from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import anthropic
import pytest
import pytest_asyncio

from tests.acceptance.conftest import Target, able_to, every_engine, targets
from tests.support.gateway_process import ASK, Gateway
from tests.support.real_engines import TOOL_NAME

MESSAGES: Final[Any] = [{"role": "user", "content": ASK}]
TOOL: Final[Any] = {
    "name": TOOL_NAME,
    "description": "The weather in a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
MANY: Final = 200


@pytest.fixture
def client(target: Target) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=target.url, api_key="any", max_retries=0, timeout=60) as client:
        yield client


@pytest_asyncio.fixture
async def aclient(target: Target) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=target.url, api_key="any", max_retries=0, timeout=60) as client:
        yield client


def join_text(message: anthropic.types.Message | anthropic.types.ParsedMessage[Any]) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def count_prompt_tokens(usage: anthropic.types.Usage) -> int:
    """Return the tokens of the prompt, including those from a cache."""
    return usage.input_tokens + (usage.cache_read_input_tokens or 0)


@every_engine
def test_responds_with_the_engines_text(client: anthropic.Anthropic, target: Target) -> None:
    message = client.messages.create(model=target.model, max_tokens=MANY, messages=MESSAGES)
    assert join_text(message) == target.text
    assert (message.stop_reason, message.role, message.model) == ("end_turn", "assistant", target.model)
    assert count_prompt_tokens(message.usage) > 0 < message.usage.output_tokens


@every_engine
def test_streams_the_engines_text(client: anthropic.Anthropic, target: Target) -> None:
    with client.messages.stream(model=target.model, max_tokens=MANY, messages=MESSAGES) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    assert "".join(pieces) == join_text(final) == target.text
    assert len(pieces) > 10
    assert final.stop_reason == "end_turn"
    assert count_prompt_tokens(final.usage) > 0 < final.usage.output_tokens


@every_engine
async def test_the_asynchronous_client_gets_the_same(aclient: anthropic.AsyncAnthropic, target: Target) -> None:
    message = await aclient.messages.create(model=target.model, max_tokens=MANY, messages=MESSAGES)
    assert join_text(message) == target.text
    events = await aclient.messages.create(model=target.model, max_tokens=MANY, messages=MESSAGES, stream=True)
    kinds = [event.type async for event in events]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]


@able_to("tools")
def test_calls_a_tool_and_responds_after_its_result(client: anthropic.Anthropic, target: Target) -> None:
    asked: dict[str, Any] = {"model": target.model, "max_tokens": MANY, "tools": [TOOL]}
    message = client.messages.create(messages=MESSAGES, **asked)
    (call,) = message.content
    assert call.type == "tool_use"
    assert (call.name, dict(call.input).keys(), message.stop_reason) == (TOOL_NAME, {"city"}, "tool_use")
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "солнечно"}
    messages = [*MESSAGES, {"role": "assistant", "content": message.content}, {"role": "user", "content": [result]}]
    after = client.messages.create(messages=messages, **asked)
    assert (join_text(after), after.stop_reason) == (target.text, "end_turn")


@able_to("tools")
async def test_streams_a_complete_tool_call_in_fragments(aclient: anthropic.AsyncAnthropic, target: Target) -> None:
    asked: dict[str, Any] = {"model": target.model, "max_tokens": MANY, "messages": MESSAGES, "tools": [TOOL]}
    (unstreamed,) = (await aclient.messages.create(**asked)).content
    async with aclient.messages.stream(**asked) as stream:
        pieces = [event.partial_json async for event in stream if event.type == "input_json"]
        (call,) = (await stream.get_final_message()).content
    assert call.type == unstreamed.type == "tool_use"
    assert (call.name, call.input) == (TOOL_NAME, unstreamed.input)
    assert "".join(pieces)


@able_to("length")
def test_a_token_limit_ends_the_response_with_that_reason(client: anthropic.Anthropic, target: Target) -> None:
    message = client.messages.create(model=target.model, max_tokens=3, messages=MESSAGES)
    assert message.stop_reason == "max_tokens"
    assert target.text.startswith(join_text(message))
    assert message.usage.output_tokens == 3


@able_to("stop")
def test_stops_at_a_stop_sequence(client: anthropic.Anthropic, target: Target) -> None:
    asked: dict[str, Any] = {"model": target.model, "max_tokens": MANY, "messages": MESSAGES}
    message = client.messages.create(stop_sequences=["мир"], **asked)
    assert join_text(message) == target.text.partition("мир")[0]
    if target.title == "vLLM":  # the others do not tell why they have stopped
        assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "мир")
    else:
        assert message.stop_reason == "end_turn"


@every_engine
def test_a_system_prompt_and_earlier_turns_reach_the_engine(client: anthropic.Anthropic, target: Target) -> None:
    turns: Any = [*MESSAGES, {"role": "assistant", "content": "Хорошо."}, {"role": "user", "content": ASK}]
    asked: dict[str, Any] = {"model": target.model, "max_tokens": MANY}
    short = client.messages.create(messages=MESSAGES, **asked)
    long = client.messages.create(messages=turns, system="Отвечай кратко и по делу.", **asked)
    assert join_text(long) == target.text
    assert count_prompt_tokens(long.usage) > count_prompt_tokens(short.usage)


@every_engine
def test_counts_tokens(client: anthropic.Anthropic, target: Target) -> None:
    few = client.messages.count_tokens(model=target.model, messages=MESSAGES).input_tokens
    more = client.messages.count_tokens(model=target.model, messages=[{"role": "user", "content": ASK * 9}])
    assert 0 < few < more.input_tokens


@able_to("count")
def test_counts_exactly_if_the_engine_can(client: anthropic.Anthropic, target: Target) -> None:
    asked: dict[str, Any] = {"model": target.model, "messages": MESSAGES, "system": "Отвечай кратко."}
    counted = client.messages.count_tokens(**asked).input_tokens
    assert counted == count_prompt_tokens(client.messages.create(max_tokens=3, **asked).usage)


@every_engine
def test_lists_and_finds_the_model(client: anthropic.Anthropic, target: Target) -> None:
    assert target.model in [model.id for model in client.models.list()]
    assert client.models.retrieve(target.model).id == target.model


@every_engine
def test_an_unknown_model_is_not_found_and_the_nearest_are_named(client: anthropic.Anthropic, target: Target) -> None:
    with pytest.raises(anthropic.NotFoundError) as failure:
        client.messages.create(model=f"{target.model}x", max_tokens=MANY, messages=MESSAGES)
    body: Any = failure.value.body
    assert (body["type"], body["error"]["type"]) == ("error", "not_found_error")
    assert target.model in body["error"]["message"]
    assert body["request_id"]


@every_engine
def test_no_messages_are_a_bad_request(client: anthropic.Anthropic, target: Target) -> None:
    with pytest.raises(anthropic.BadRequestError) as failure:
        client.messages.create(model=target.model, max_tokens=MANY, messages=[])
    assert "messages" in str(failure.value)


@targets(["mlx_sim", "victoria_sim"])
@pytest.mark.parametrize("asked", [{"tools": [TOOL]}, {"stop_sequences": ["мир"]}])
def test_an_unsupported_feature_is_refused_with_the_name_of_the_engine(
    client: anthropic.Anthropic, target: Target, asked: dict[str, Any]
) -> None:
    with pytest.raises(anthropic.BadRequestError) as failure:
        client.messages.create(model=target.model, max_tokens=MANY, messages=MESSAGES, **asked)
    assert target.title in str(failure.value)


def test_an_unreachable_server_is_overloaded_with_its_address(away: Gateway) -> None:
    with anthropic.Anthropic(base_url=away.url, api_key="any", max_retries=0) as client:
        with pytest.raises(anthropic.APIStatusError) as failure:
            client.messages.create(model="tiny", max_tokens=MANY, messages=MESSAGES)
        with pytest.raises(anthropic.APIStatusError) as streamed:
            client.messages.create(model="tiny", max_tokens=MANY, messages=MESSAGES, stream=True)
    assert failure.value.status_code == streamed.value.status_code == 503
    assert "127.0.0.1:9" in str(failure.value)
