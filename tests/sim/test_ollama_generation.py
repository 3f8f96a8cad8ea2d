"""Ollama's chat and generate: the form of streams and answers, tools, thinking, logprobs, formats, contexts, ends."""

import re
from typing import Any

import msgspec
import pytest

from penstock.sim import Faults, SimModel, SimOptions, Simulator
from tests.sim.client import Line, ask, until
from tests.sim.conftest import PLAIN, SKILLED, THINKER

HI = [{"role": "user", "content": "hi"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}},
    },
}
CLOSING = {
    "total_duration",
    "load_duration",
    "prompt_eval_count",
    "prompt_eval_duration",
    "eval_count",
    "eval_duration",
}


async def chat(server: Simulator, **body: Any) -> Any:
    return await ask(server.url, "POST", "/api/chat", {"model": PLAIN, "messages": HI, **body})


async def generate(server: Simulator, **body: Any) -> Any:
    return await ask(server.url, "POST", "/api/generate", {"model": PLAIN, "prompt": "hi", **body})


async def test_chat_streams_lines_of_json_unless_told_otherwise(ollama: Simulator) -> None:
    answer = await chat(ollama)
    assert answer.header("content-type") == "application/x-ndjson"
    assert answer.header("transfer-encoding") == "chunked"
    assert answer.body.endswith(b"\n")
    assert b"\n\n" not in answer.body
    assert len(answer.lines) > 2


async def test_lines_before_the_last_have_four_keys_and_the_last_has_the_numbers(ollama: Simulator) -> None:
    *lines, last = (await chat(ollama)).lines
    assert all(list(line) == ["model", "created_at", "message", "done"] for line in lines)
    assert all(list(line["message"]) == ["role", "content"] for line in lines)
    assert not any(line["done"] for line in lines)
    assert list(last)[:5] == ["model", "created_at", "message", "done", "done_reason"]
    assert last["done_reason"] == "stop"
    numbers = {key: last[key] for key in CLOSING & set(last)}
    assert {"total_duration", "prompt_eval_count", "eval_count"} <= set(numbers)
    assert all(isinstance(number, int) and number > 0 for number in numbers.values())
    assert last["eval_count"] == len(lines)


async def test_an_answer_that_is_not_streamed_is_one_object_without_a_newline(ollama: Simulator) -> None:
    streamed = "".join(line["message"]["content"] for line in (await chat(ollama)).lines)
    answer = await chat(ollama, stream=False)
    assert answer.header("content-type") == "application/json; charset=utf-8"
    assert not answer.body.endswith(b"\n")
    assert answer.json["message"]["content"] == streamed
    assert answer.json["done"] is True


async def test_times_are_utc_with_at_most_nine_digits(ollama: Simulator) -> None:
    for line in (await chat(ollama)).lines:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z", line["created_at"])


async def test_signs_that_html_or_a_line_splitter_could_mistake_are_escaped(ollama: Simulator) -> None:
    tricky = "<b> & \u2028 end"
    answer = await ask(ollama.url, "POST", "/api/create", {"model": "t", "from": PLAIN, "system": tricky})
    assert answer.lines[-1] == {"status": "success"}
    shown = await ask(ollama.url, "POST", "/api/show", {"model": "t"})
    assert b"\\u003cb\\u003e \\u0026 \\u2028 end" in shown.body
    assert shown.json["system"] == tricky


@pytest.mark.parametrize(("keep_alive", "reason"), [(None, "load"), (0, "unload")])
async def test_a_chat_without_messages_loads_or_unloads(ollama: Simulator, keep_alive: Any, reason: str) -> None:
    answer = await chat(ollama, messages=[], keep_alive=keep_alive)
    assert answer.header("content-type") == "application/json; charset=utf-8"
    assert list(answer.json) == ["model", "created_at", "message", "done", "done_reason"]
    assert answer.json["message"] == {"role": "assistant", "content": ""}
    assert answer.json["done_reason"] == reason
    assert (PLAIN in ollama.speed_model.residents) == (reason == "load")


@pytest.mark.parametrize(("keep_alive", "reason"), [(None, "load"), (0, "unload")])
async def test_an_empty_prompt_loads_or_unloads(ollama: Simulator, keep_alive: Any, reason: str) -> None:
    answer = await generate(ollama, prompt="", keep_alive=keep_alive)
    assert list(answer.json) == ["model", "created_at", "response", "done", "done_reason"]
    assert (answer.json["response"], answer.json["done_reason"]) == ("", reason)


@pytest.mark.parametrize("raw", [False, True])
async def test_generate_ends_with_a_context_unless_raw(ollama: Simulator, raw: bool) -> None:
    *lines, last = (await generate(ollama, raw=raw)).lines
    assert all(list(line) == ["model", "created_at", "response", "done"] for line in lines)
    assert ("context" in last) == (not raw)
    if not raw:
        assert list(last)[4:6] == ["done_reason", "context"]
        assert all(isinstance(token, int) for token in last["context"])


async def test_raw_goes_with_no_template(ollama: Simulator) -> None:
    answer = await generate(ollama, raw=True, system="x")
    assert (answer.status, answer.error) == (400, "raw mode does not support template, system, or context")


async def test_a_limit_of_one_token_is_kept(ollama: Simulator) -> None:
    answer = await chat(ollama, stream=False, options={"num_predict": 1})
    assert (answer.json["done_reason"], answer.json["eval_count"]) == ("length", 1)


async def test_it_stops_at_a_stop_word(ollama: Simulator) -> None:
    answer = await chat(ollama, stream=False, options={"stop": [" I am"]})
    assert answer.json["message"]["content"] == "You said: “hi”."
    assert answer.json["done_reason"] == "stop"


@pytest.mark.parametrize("model", [SKILLED, THINKER])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_tool_is_called_with_an_object_of_arguments(ollama: Simulator, model: str, stream: bool) -> None:
    answer = await chat(ollama, model=model, tools=[WEATHER], stream=stream, think=False if model == THINKER else None)
    lines = answer.lines
    (call,) = [call for line in lines for call in line["message"].get("tool_calls", [])]
    assert re.fullmatch(r"call_[a-z0-9]{8}", call["id"])
    assert call["function"]["index"] == 0
    assert call["function"]["name"] == "get_weather"
    assert list(call["function"]["arguments"]) == ["city"]
    assert lines[-1]["done_reason"] == "stop"


@pytest.mark.parametrize(("model", "done"), [("tiny", [False, True]), ("nat", [True])])
async def test_a_go_template_sends_calls_in_a_line_of_their_own(model: str, done: list[bool]) -> None:
    async with Simulator(SimOptions.instant("ollama", model)) as simulator:
        lines = (await chat(simulator, model=model, tools=[WEATHER])).lines
    assert [line["done"] for line in lines] == done
    assert "tool_calls" in lines[0]["message"]


async def test_a_call_that_is_cut_off_is_none(ollama: Simulator) -> None:
    answer = await chat(ollama, model=SKILLED, tools=[WEATHER], stream=False, options={"num_predict": 3})
    assert answer.json["message"] == {"role": "assistant", "content": ""}
    assert (answer.json["done_reason"], answer.json["eval_count"]) == ("length", 3)
    complete = await chat(ollama, model=SKILLED, tools=[WEATHER], stream=False)
    exact = {"num_predict": complete.json["eval_count"]}
    enough = await chat(ollama, model=SKILLED, tools=[WEATHER], stream=False, options=exact)
    assert "tool_calls" in enough.json["message"]
    for limit in (1, 5):
        thought = await chat(ollama, model=THINKER, tools=[WEATHER], stream=False, options={"num_predict": limit})
        assert thought.json["eval_count"] == limit


async def test_logprobs_of_a_call_come_before_it(ollama: Simulator) -> None:
    *lines, last = (await chat(ollama, model=SKILLED, tools=[WEATHER], logprobs=True)).lines
    tokens = [line["logprobs"][0]["token"] for line in lines]
    assert (tokens[0], tokens[-1]) == ("<tool_call>", "</tool_call>")
    assert "tool_calls" in lines[-2]["message"]
    assert last["eval_count"] == len(lines)


async def test_a_model_that_repeats_itself_is_ended_without_a_last_line() -> None:
    async with Simulator(SimOptions.instant("ollama", "tiny", text="no " * 100)) as simulator:
        streamed = await chat(simulator, model="tiny")
        complete = await chat(simulator, model="tiny", stream=False)
    assert (streamed.status, streamed.ended) == (200, "whole")
    assert [line["done"] for line in streamed.lines] == [False] * 31
    assert complete.json["message"]["content"] == " ".join(["no"] * 31)
    assert (complete.json["done"], "done_reason" in complete.json) == (False, False)


async def test_the_rendered_prompt_can_be_asked_for(ollama: Simulator) -> None:
    rendered = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    for answer in (await chat(ollama, _debug_render_only=True), await generate(ollama, _debug_render_only=True)):
        assert answer.header("content-type") == "application/json; charset=utf-8"
        assert answer.json["_debug_info"] == {"rendered_template": rendered}
        assert answer.json["done"] is False


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"options": {"repeat_penalty": 0}}, 400, "penalty_repeat must be finite and greater than 0"),
        (
            {"format": {"type": "object", "properties": {"a": {"type": "bogus"}}}},
            400,
            "JSON schema error at #/properties/a: unrecognized type bogus",
        ),
    ],
)
async def test_what_llama_server_refuses_is_passed_on(
    ollama: Simulator, body: dict[str, Any], status: int, words: str
) -> None:
    answer = await chat(ollama, **body)
    assert answer.status == status
    assert words in msgspec.json.decode(answer.error)["error"]["message"]


async def test_a_tool_s_result_is_answered_in_words(ollama: Simulator) -> None:
    call = {"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}
    messages = [
        *HI,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "22 degrees", "tool_name": "get_weather"},
    ]
    answer = await chat(ollama, model=SKILLED, tools=[WEATHER], messages=messages, stream=False)
    assert "22 degrees" in answer.json["message"]["content"]
    assert "tool_calls" not in answer.json["message"]


async def test_a_thinking_model_thinks_first_unless_told_not_to(ollama: Simulator) -> None:
    lines = (await chat(ollama, model=THINKER)).lines
    kinds = ["thinking" if line["message"].get("thinking") else "content" for line in lines]
    assert kinds == sorted(kinds, reverse=True)
    assert kinds[0] == "thinking"
    assert all(line["message"]["content"] == "" for line in lines if line["message"].get("thinking"))
    quiet = await chat(ollama, model=THINKER, think=False)
    assert not any("thinking" in line["message"] for line in quiet.lines)


async def test_logprobs_sit_on_the_line_of_their_token_and_nowhere_unasked(ollama: Simulator) -> None:
    *lines, _ = (await chat(ollama, logprobs=True, top_logprobs=2)).lines
    for line in lines:
        (entry,) = line["logprobs"]
        assert entry["token"] == line["message"]["content"]
        assert bytes(entry["bytes"]).decode() == entry["token"]
        assert len(entry["top_logprobs"]) == 2
    assert not any("logprobs" in line for line in (await chat(ollama)).lines)


async def test_json_and_schemas_are_obeyed(ollama: Simulator) -> None:
    schema = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer", "minimum": 3}}}
    plain, shaped = await chat(ollama, format="json", stream=False), await chat(ollama, format=schema, stream=False)
    assert isinstance(msgspec.json.decode(plain.json["message"]["content"]), dict)
    assert msgspec.json.decode(shaped.json["message"]["content"]) == {"n": 3}


async def test_the_answer_speaks_the_caller_s_language(ollama: Simulator) -> None:
    answer = await chat(ollama, messages=[{"role": "user", "content": "Привет!"}], stream=False)
    assert "«Привет!»" in answer.json["message"]["content"]
    assert answer.json["message"]["content"].startswith("Вы")


async def test_what_fails_before_the_first_token_has_a_status_and_after_it_a_last_line(ollama: Simulator) -> None:
    ollama.faults = Faults(crash_before=1)
    before = await chat(ollama)
    assert before.status == 500
    assert before.header("content-type") == "application/json"
    assert before.error.startswith("model runner has unexpectedly stopped")
    ollama.faults = Faults(crash_middle=1)
    after = await chat(ollama)
    assert after.status == 200
    assert "message" in after.lines[0]
    assert list(after.lines[-1]) == ["error"]


async def test_nothing_is_sent_before_the_first_token() -> None:
    slow = SimOptions(models=(PLAIN,), load_seconds=0, prefill_tokens_per_second=0.001, tokens_per_second=1)
    async with Simulator(slow) as simulator:
        line = await Line.to(simulator.url)
        await line.send("POST", "/api/chat", {"model": PLAIN, "messages": HI})
        silent = await line.receive(patience=0.2)
        await line.close()
    assert (silent.raw, silent.ended) == (b"", "silent")


async def test_a_client_that_leaves_frees_its_slot_and_the_model_stays() -> None:
    options = SimOptions(models=(PLAIN,), load_seconds=0, tokens_per_second=0.5, slots=1)
    async with Simulator(options) as simulator:
        line = await Line.to(simulator.url)
        await line.send("POST", "/api/chat", {"model": PLAIN, "messages": HI})
        await until(lambda: simulator.running == 1)
        await line.close()
        await until(lambda: simulator.running == 0)
        assert simulator.counters.cancelled == 1
        loaded = await ask(simulator.url, "GET", "/api/ps")
    assert [model["name"] for model in loaded.json["models"]] == [PLAIN]


async def test_a_full_queue_is_503_in_the_exact_words() -> None:
    options = SimOptions(models=("gemma3:1b", "llama3.2", "qwen3:14b"), load_seconds=60, queue_limit=1)
    async with Simulator(options) as simulator:
        lines = [await Line.to(simulator.url) for _ in range(2)]
        for at, line in enumerate(lines):
            await line.send("POST", "/api/chat", {"model": "gemma3:1b" if at else "llama3.2", "messages": HI})
        await until(lambda: simulator.waiting == 2)
        answer = await ask(simulator.url, "POST", "/api/chat", {"model": "qwen3:14b", "messages": HI})
        for line in lines:
            await line.close()
    assert (answer.status, answer.error) == (503, "server busy, please try again.  maximum pending requests exceeded")


async def test_old_messages_are_dropped_in_silence_and_the_last_one_never(ollama: Simulator) -> None:
    old = [{"role": "user", "content": "word " * 400}, {"role": "assistant", "content": "fine"}]
    dropped = await chat(ollama, messages=[*old, *HI], options={"num_ctx": 100}, stream=False)
    assert dropped.status == 200
    assert dropped.json["prompt_eval_count"] < 100
    kept = await chat(ollama, messages=[*old, *HI], options={"num_ctx": 100}, truncate=False)
    inner = msgspec.json.decode(kept.error)["error"]
    assert (kept.status, inner["type"], inner["n_ctx"]) == (400, "exceed_context_size_error", 256)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_last_message_that_is_too_long_is_cut_by_a_go_template_only(stream: bool) -> None:
    long = [{"role": "user", "content": "word " * 400}]
    async with Simulator(SimOptions.instant("ollama", "tiny", "nat")) as simulator:
        asked = {"messages": long, "options": {"num_ctx": 256, "num_predict": 1}, "stream": stream}
        cut = await chat(simulator, model="tiny", **asked)
        whole = await chat(simulator, model="tiny", **asked, shift=False)
        native = await chat(simulator, model="nat", **asked)
    assert (cut.status, cut.lines[-1]["prompt_eval_count"]) == (200, 130)
    assert (whole.status, whole.error.partition(";")[0]) == (
        400,
        "the prompt is longer than the context length currently available to the model",
    )
    assert (native.status, "exceed_context_size_error" in native.error) == (400, True)
    assert native.header("transfer-encoding") == ("chunked" if stream else None)
    assert native.header("content-type") == ("application/json" if stream else "application/json; charset=utf-8")


async def test_a_long_prompt_is_cut_unless_that_is_forbidden(ollama: Simulator) -> None:
    long = "word " * 400
    cut = await generate(ollama, prompt=long, options={"num_ctx": 100}, stream=False)
    assert cut.json["prompt_eval_count"] < 100
    whole = await generate(ollama, prompt=long, options={"num_ctx": 100}, truncate=False)
    assert whole.status == 400


async def test_a_full_context_ends_the_answer_where_shifting_is_off(ollama: Simulator) -> None:
    long = [{"role": "user", "content": "word " * 220}]
    answer = await chat(ollama, messages=long, options={"num_ctx": 256}, shift=False, stream=False)
    assert answer.json["done_reason"] == "length"
    assert answer.json["prompt_eval_count"] + answer.json["eval_count"] == 256


async def test_another_context_size_loads_the_model_again(ollama: Simulator) -> None:
    for size, loads in ((None, 1), (None, 1), (4096, 2), (4096, 2), (None, 3)):
        await chat(ollama, options={"num_ctx": size} if size else {}, stream=False)
        assert ollama.counters.loads == loads


async def test_images_need_a_model_that_sees(ollama: Simulator) -> None:
    pictured = [{"role": "user", "content": "what is it", "images": ["aGk="]}]
    blind = await chat(ollama, messages=pictured)
    assert blind.status == 400
    assert "Multimodal data provided, but model does not support multimodal requests." in blind.error
    async with Simulator(SimOptions.instant("ollama", "nat")) as native:
        blind = await chat(native, model="nat", messages=pictured)
    assert blind.status == 500
    assert "image input is not supported" in blind.error
    async with Simulator(SimOptions.instant("ollama", SimModel.from_name("gemma3:4b"))) as seeing:
        answer = await chat(seeing, model="gemma3:4b", messages=pictured, stream=False)
    assert answer.status == 200
