"""What vLLM and llama.cpp do beyond what was recorded: tools, schemas, stops, logprobs, limits, loading."""

from typing import Any

import msgspec
import openai
import pytest

from penstock.sim import Faults, SimModel, SimOptions, Simulator
from tests.sim.client import Line, ask, until
from tests.support.transcripts import parse_events

HI = [{"role": "user", "content": "hi"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}},
    },
}


@pytest.fixture(params=["vllm", "llamacpp"])
def server(request: pytest.FixtureRequest) -> Simulator:
    found: Simulator = request.getfixturevalue(request.param)
    return found


async def chat(server: Simulator, **body: Any) -> Any:
    return await ask(server.url, "POST", "/v1/chat/completions", {"model": "m", "messages": HI, **body})


def content(answer: Any) -> str:
    return str(answer.json["choices"][0]["message"]["content"])


async def test_openai_s_client_chats_whole_and_streamed(server: Simulator) -> None:
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as api:
        whole = await api.chat.completions.create(model="m", messages=[{"role": "user", "content": "Привет"}])
        stream = await api.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "Привет"}], stream=True
        )
        pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
        text = await api.completions.create(model="m", prompt="hi")
    assert whole.choices[0].message.content == "".join(pieces)
    assert "«Привет»" in "".join(pieces)
    assert text.choices[0].text


async def test_a_tool_call_arrives_in_fragments_that_join_to_json(server: Simulator) -> None:
    *chunks, done = parse_events((await chat(server, tools=[WEATHER], stream=True)).body)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    parts = [part for delta in deltas for part in delta.get("tool_calls", [])]
    assert done == "[DONE]"
    assert [part["function"].get("name") for part in parts if "id" in part] == ["get_weather"]
    assert list(msgspec.json.decode("".join(part["function"].get("arguments", "") for part in parts))) == ["city"]
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_vllm_may_put_two_entries_of_one_index_into_one_chunk(vllm: Simulator) -> None:
    chunks = parse_events((await chat(vllm, tools=[WEATHER], stream=True)).body)[:-1]
    indices = [[part["index"] for part in c["choices"][0]["delta"].get("tool_calls", [])] for c in chunks]
    assert [0, 0] in indices


async def test_a_whole_tool_call_has_its_arguments_as_text(server: Simulator) -> None:
    (choice,) = (await chat(server, tools=[WEATHER])).json["choices"]
    (call,) = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls"
    assert list(msgspec.json.decode(call["function"]["arguments"])) == ["city"]


@pytest.mark.parametrize("choice", ["none", {"type": "function", "function": {"name": "other"}}])
async def test_tool_choice_is_obeyed(server: Simulator, choice: Any) -> None:
    other = {"type": "function", "function": {"name": "other", "parameters": {}}}
    message = (await chat(server, tools=[WEATHER, other], tool_choice=choice)).json["choices"][0]["message"]
    called = [call["function"]["name"] for call in message.get("tool_calls") or []]
    assert called == ([] if choice == "none" else ["other"])


async def test_a_tool_s_result_is_answered_in_words(server: Simulator) -> None:
    called = {"id": "1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    messages = [
        *HI,
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "1", "content": "22 degrees"},
    ]
    assert "22 degrees" in content(await chat(server, tools=[WEATHER], messages=messages))


async def test_a_schema_is_obeyed(server: Simulator) -> None:
    schema = {"type": "object", "required": ["n"], "properties": {"n": {"enum": [4, 5]}}}
    shape = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    assert msgspec.json.decode(content(await chat(server, response_format=shape))) == {"n": 4}
    loose = await chat(server, response_format={"type": "json_object"})
    assert isinstance(msgspec.json.decode(content(loose)), dict)


async def test_it_stops_at_a_stop_word(server: Simulator) -> None:
    answer = await chat(server, stop=[" I am"])
    assert content(answer) == "You said: “hi”."
    assert answer.json["choices"][0]["finish_reason"] == "stop"
    if server.kind.name == "vllm":
        assert answer.json["choices"][0]["stop_reason"] == " I am"


async def test_as_many_choices_as_asked_for(server: Simulator) -> None:
    whole = (await chat(server, n=3)).json
    assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2]
    chunks = parse_events((await chat(server, n=2, stream=True)).body)[:-1]
    assert {choice["index"] for chunk in chunks for choice in chunk["choices"]} == {0, 1}


async def test_logprobs_belong_to_their_token(server: Simulator) -> None:
    answer = await chat(server, logprobs=True, top_logprobs=2)
    rows = answer.json["choices"][0]["logprobs"]["content"]
    assert "".join(row["token"] for row in rows) == content(answer)
    assert all(len(row["top_logprobs"]) == 2 for row in rows)
    streamed = parse_events((await chat(server, logprobs=True, stream=True)).body)[:-1]
    told = [c["choices"][0].get("logprobs") for c in streamed if c["choices"][0]["delta"].get("content")]
    assert all(told)


async def test_an_answer_can_be_made_to_run_to_its_limit(server: Simulator) -> None:
    answer = await chat(server, max_tokens=300, ignore_eos=True)
    assert answer.json["usage"]["completion_tokens"] == 300
    assert answer.json["choices"][0]["finish_reason"] == "length"


async def test_a_prompt_that_is_too_long_is_400(server: Simulator) -> None:
    answer = await chat(server, messages=[{"role": "user", "content": "word " * 3000}])
    assert answer.status == 400
    message = answer.json["error"]["message"]
    assert "2048" in message
    if server.kind.name == "llamacpp":
        assert answer.json["error"]["type"] == "exceed_context_size_error"
        assert answer.json["error"]["n_ctx"] == 2048


async def test_images_need_a_model_that_sees(server: Simulator) -> None:
    parts = [
        {"type": "text", "text": "what?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
    ]
    answer = await chat(server, messages=[{"role": "user", "content": parts}])
    assert answer.status >= 400


async def test_metrics_count_who_runs(server: Simulator) -> None:
    await chat(server)
    text = (await ask(server.url, "GET", "/metrics")).body.decode()
    name = "vllm:num_requests_running" if server.kind.name == "vllm" else "llamacpp:requests_processing"
    assert f"# TYPE {name} gauge" in text


@pytest.mark.parametrize("kind", ["vllm", "llamacpp"])
async def test_an_embedding_model_embeds(kind: str) -> None:
    async with Simulator(SimOptions.instant(kind, "nomic-embed-text")) as simulator:
        api = openai.AsyncOpenAI(base_url=f"{simulator.url}/v1", api_key="any", max_retries=0)
        told = await api.embeddings.create(model="nomic-embed-text", input=["a", "b c"])
        await api.close()
    assert [row.index for row in told.data] == [0, 1]
    assert told.data[0].embedding != told.data[1].embedding


@pytest.mark.parametrize(("kind", "key"), [("vllm", "reasoning"), ("llamacpp", "reasoning_content")])
async def test_thoughts_come_apart_from_the_answer(kind: str, key: str) -> None:
    async with Simulator(SimOptions.instant(kind, SimModel.from_name("qwen3:14b"))) as simulator:
        message = (await chat(simulator, model="qwen3:14b")).json["choices"][0]["message"]
        streamed = parse_events((await chat(simulator, model="qwen3:14b", stream=True)).body)[:-1]
        silent = await chat(simulator, model="qwen3:14b", chat_template_kwargs={"enable_thinking": False})
    assert message[key]
    thoughts = [chunk["choices"][0]["delta"].get(key) or "" for chunk in streamed]
    assert "".join(thoughts) == message[key]
    assert not silent.json["choices"][0]["message"].get(key)


async def test_vllm_without_a_tool_parser_says_which_options_are_missing() -> None:
    async with Simulator(
        SimOptions.instant("vllm", SimModel.from_name("m", capabilities=("completion",)))
    ) as simulator:
        answer = await chat(simulator, tools=[WEATHER])
    assert answer.status == 400
    assert "--enable-auto-tool-choice" in answer.json["error"]["message"]


async def test_llamacpp_says_503_while_it_loads_and_vllm_does_not_even_listen() -> None:
    cold = {"load_seconds": 3600.0, "cold_start": True}
    async with Simulator(SimOptions("llamacpp", models=("m",), **cold)) as simulator:  # type: ignore[arg-type]
        answer = await ask(simulator.url, "GET", "/health")
        assert answer.status == 503
        assert answer.json == {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}
        assert (await ask(simulator.url, "GET", "/v1/models")).status == 200
    async with Simulator(SimOptions("vllm", models=("m",), **cold)) as simulator:  # type: ignore[arg-type]
        with pytest.raises(ConnectionRefusedError):
            await ask(simulator.url, "GET", "/health")


@pytest.mark.parametrize("kind", ["vllm", "llamacpp"])
async def test_a_cold_server_is_well_once_it_has_loaded(kind: str) -> None:
    options = SimOptions(kind, models=("m",), load_seconds=1, clock_scale=100, cold_start=True)
    async with Simulator(options) as simulator:
        await until(lambda: not simulator.speed_model.loading)
        assert (await ask(simulator.url, "GET", "/health")).status == 200


async def test_a_hang_up_frees_the_slot_for_who_waits(server: Simulator) -> None:
    kind = server.kind.name
    async with Simulator(SimOptions(kind, models=("m",), tokens_per_second=0.5, slots=1)) as simulator:
        first, second = await Line.to(simulator.url), await Line.to(simulator.url)
        for line in (first, second):
            await line.send("POST", "/v1/chat/completions", {"model": "m", "messages": HI, "stream": True})
        await until(lambda: (simulator.running, simulator.waiting) == (1, 1))
        await first.close()
        await until(lambda: (simulator.running, simulator.waiting) == (1, 0))
        assert simulator.counters.cancelled == 1
        assert simulator.counters.max_concurrency == 1
        await second.close()
        await until(lambda: simulator.running == 0)


async def test_an_idle_connection_is_closed_and_a_busy_one_is_not(server: Simulator) -> None:
    options = SimOptions(server.kind.name, models=("m",), tokens_per_second=500, idle_seconds=0.05)
    async with Simulator(options) as simulator:
        line = await Line.to(simulator.url)
        await line.send("POST", "/v1/chat/completions", {"model": "m", "messages": HI})
        assert (await line.receive()).ended == "whole"
        assert await line.reader.read() == b""
        await line.close()


async def test_llamacpp_closes_a_connection_after_a_hundred_requests_and_after_an_error(llamacpp: Simulator) -> None:
    line = await Line.to(llamacpp.url)
    for number in range(1, 101):
        await line.send("GET", "/health")
        closing = (await line.receive()).header("connection")
        assert closing == ("close" if number == 100 else None)
    assert await line.reader.read() == b""
    await line.close()
    line = await Line.to(llamacpp.url)
    await line.send("GET", "/nothing")
    assert (await line.receive()).header("connection") == "close"
    assert await line.reader.read() == b""
    await line.close()


async def test_a_crash_in_mid_stream_is_an_error_event(server: Simulator) -> None:
    server.faults = Faults(crash_middle=1)
    *_, error, done = parse_events((await chat(server, stream=True)).body)
    assert error["error"]["code"] == 500
    assert done == "[DONE]"
