"""Decoding of complete Ollama requests."""

import json

import pytest

from penstock.dialects.ollama import request
from penstock.domain.content import (
    Chat,
    Completion,
    Embedding,
    Format,
    Image,
    Message,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolCall,
)
from penstock.domain.errors import InvalidRequest

HELLO = [{"role": "user", "content": "hello"}]


def decode_chat(**fields: object) -> Chat:
    return request.decode_chat(json.dumps({"model": "m", "messages": HELLO} | fields).encode())


def decode_generate(**fields: object) -> Chat | Completion:
    return request.decode_generate(json.dumps({"model": "m"} | fields).encode())


def test_a_plain_chat_has_no_further_settings():
    assert decode_chat() == Chat((Message("user", (Text("hello"),)),))


def test_nulls_count_as_absent():
    fields = ("format", "options", "keep_alive", "think", "tools", "logprobs", "top_logprobs", "truncate", "shift")
    assert decode_chat(**dict.fromkeys(fields)) == decode_chat()
    assert decode_chat(options={"temperature": None, "stop": None, "num_ctx": None}) == decode_chat()


def test_options_become_sampling_and_ollamas_own_are_kept():
    asked = decode_chat(
        options={"num_predict": 5.5, "temperature": 0, "top_p": 0.5, "top_k": 7, "min_p": 0.1, "seed": 3, "stop": ["a"],
                 "presence_penalty": 1, "frequency_penalty": 2, "repeat_penalty": 1.5, "num_ctx": 4096}
    )  # fmt: skip
    assert asked.sampling == Sampling(
        max_tokens=5,
        temperature=0.0,
        top_p=0.5,
        top_k=7,
        min_p=0.1,
        seed=3,
        stop=("a",),
        presence_penalty=1.0,
        frequency_penalty=2.0,
        repeat_penalty=1.5,
    )
    assert asked.options == (("num_ctx", b"4096"),)


@pytest.mark.parametrize(
    ("options", "parsed"),
    [
        ({"temperature": "hot"}, 'option "temperature" must be of type float32'),
        ({"seed": []}, 'option "seed" must be of type integer'),
        ({"top_k": True}, 'option "top_k" must be of type integer'),
        ({"stop": "a"}, 'option "stop" must be of type array'),
        ({"stop": [1]}, 'option "stop" must be of type an array of strings'),
    ],
)
def test_an_option_of_the_wrong_type_is_named(options: dict[str, object], parsed: str):
    with pytest.raises(InvalidRequest) as raised:
        decode_chat(options=options)
    assert raised.value.message == parsed


def test_content_as_a_list_is_refused_as_in_go():
    with pytest.raises(InvalidRequest) as raised:
        decode_chat(messages=[{"role": "user", "content": [{"type": "text", "text": "x"}]}])
    parsed = "json: cannot unmarshal array into Go struct field ChatRequest.messages.content of type string"
    assert (raised.value.message, raised.value.param) == (parsed, "messages.content")


def test_roles_are_read_in_any_case_and_others_refused():
    assert decode_chat(messages=[{"role": "SYSTEM", "content": "x"}]).messages[0].role == "system"
    with pytest.raises(InvalidRequest, match=r"messages\[0\].role"):
        decode_chat(messages=[{"role": "robot", "content": "x"}])


def test_images_are_recognized_by_their_first_bytes():
    images = ["/9j/AAAA", "iVBORw0K", "data:image/webp;base64,UklGRgAA", "AAAA"]
    parts = decode_chat(messages=[{"role": "user", "content": "look", "images": images}]).messages[0].parts
    assert parts[0] == Text("look")
    assert parts[1:] == (
        Image("/9j/AAAA", "image/jpeg"),
        Image("iVBORw0K", "image/png"),
        Image("UklGRgAA", "image/webp"),
        Image("AAAA", "image/png"),
    )


def test_invalid_base64_is_refused_with_its_path():
    with pytest.raises(InvalidRequest, match="illegal base64 data at input byte 2"):
        decode_chat(messages=[{"role": "user", "content": "", "images": ["AA!A"]}])


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("", None),
        ("json", Format()),
        ({"type": "object"}, Format(b'{"type": "object"}')),
    ],
)
def test_formats(sent: object, meant: Format | None):
    assert decode_chat(format=sent).format == meant


def test_other_formats_are_refused_with_ollamas_message():
    with pytest.raises(InvalidRequest) as raised:
        decode_chat(format="xml")
    assert raised.value.message == 'invalid format: "\\"xml\\""; expected "json" or a valid JSON Schema object'


@pytest.mark.parametrize(
    ("sent", "meant"), [(True, Thinking()), (False, Thinking(False)), ("low", Thinking(effort="low"))]
)
def test_thinking(sent: object, meant: Thinking):
    assert decode_chat(think=sent).thinking == meant


@pytest.mark.parametrize(
    ("sent", "parsed"),
    [
        ("x", 'invalid think value: "x" (must be "high", "medium", "low", "max", true, or false)'),
        (1, 'think must be a boolean or string ("high", "medium", "low", "max", true, or false)'),
    ],
)
def test_other_thinking_is_refused_with_ollamas_message(sent: object, parsed: str):
    with pytest.raises(InvalidRequest) as raised:
        decode_chat(think=sent)
    assert raised.value.message == parsed


@pytest.mark.parametrize("sent", [5, 0, -1, 1.5, "5m", "1h30m", "300ms", "0", "-1s", "1.5h", "+2s"])
def test_durations_that_go_parses_are_kept_unchanged(sent: object):
    assert decode_chat(keep_alive=sent).keep_alive == json.dumps(sent).encode()


@pytest.mark.parametrize(
    ("sent", "parsed"),
    [
        ("5", 'time: missing unit in duration "5"'),
        ("-1", 'time: missing unit in duration "-1"'),
        ("1h5", 'time: missing unit in duration "1h5"'),
        ("x", 'time: invalid duration "x"'),
        ("", 'time: invalid duration ""'),
        ("5d", 'time: unknown unit "d" in duration "5d"'),
        (True, "Unsupported type: 'bool'"),
        ({}, "Unsupported type: 'map[string]interface {}'"),
    ],
)
def test_other_durations_are_refused_with_gos_message(sent: object, parsed: str):
    with pytest.raises(InvalidRequest) as raised:
        decode_chat(keep_alive=sent)
    assert raised.value.message == parsed


def test_top_logprobs_has_bounds():
    assert decode_chat(logprobs=True, top_logprobs=20).sampling == Sampling(logprobs=True, top_logprobs=20)
    with pytest.raises(InvalidRequest, match="top_logprobs must be between 0 and 20"):
        decode_chat(top_logprobs=21)


def test_tools_and_their_calls_keep_their_json():
    asked = decode_chat(
        tools=[{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}],
        messages=[
            {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": {"x": [1, 2]}}}]},
            {"role": "tool", "tool_name": "f", "tool_call_id": "a", "content": "42"},
        ],
    )
    assert asked.tools == (Tool("f", "d", b'{"type": "object"}'),)
    assert asked.messages[0].tool_calls == (ToolCall("a", "f", '{"x": [1, 2]}'),)
    assert asked.messages[1] == Message("tool", (Text("42"),), tool_call_id="a", name="f")


def test_calls_without_ids_are_joined_to_their_results():
    calls = [{"function": {"name": name, "arguments": {}}} for name in ("f", "g", "f")]
    results = [{"role": "tool", "content": "", "tool_name": name} for name in ("g", "f", "f")]
    messages = decode_chat(messages=[{"role": "assistant", "tool_calls": calls}, *results]).messages
    ids = [call.id for call in messages[0].tool_calls]
    assert len(set(ids)) == 3
    assert [message.tool_call_id for message in messages[1:]] == [ids[1], ids[0], ids[2]]


def test_results_that_name_nothing_answer_the_calls_in_order():
    calls = [{"function": {"name": name}} for name in ("f", "g")]
    results = [{"role": "tool", "content": ""}] * 2
    messages = decode_chat(messages=[{"role": "assistant", "tool_calls": calls}, *results]).messages
    assert [message.name for message in messages[1:]] == ["f", "g"]
    assert messages[0].tool_calls[0].arguments == "{}"


def test_arguments_that_are_not_an_object_are_refused_as_in_go():
    with pytest.raises(InvalidRequest, match=r"cannot unmarshal string .* of type api.ToolCallFunctionArguments"):
        decode_chat(messages=[{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}])


def test_context_rules_are_kept_only_where_they_are_not_the_default():
    assert decode_chat(truncate=True, shift=True).extra == ()
    assert decode_chat(truncate=False, shift=False).extra == (("truncate", b"false"), ("shift", b"false"))


def test_a_prompt_is_a_conversation_of_one_turn():
    asked = decode_generate(prompt="hi", system="be brief", images=["AAAA"], think=False)
    assert asked == Chat(
        (
            Message("system", (Text("be brief"),)),
            Message("user", (Text("hi"), Image("AAAA", "image/png"))),
        ),
        thinking=Thinking(False),
    )


def test_an_empty_prompt_has_no_messages():
    assert decode_generate(prompt="", system="x", keep_alive=0) == Chat((), keep_alive=b"0")


def test_context_and_template_are_carried():
    asked = decode_generate(prompt="hi", context=[1, 2], template="{{ .Prompt }}")
    assert asked.extra == (("template", b'"{{ .Prompt }}"'), ("context", b"[1,2]"))


def test_raw_prompts_and_prompts_with_a_suffix_are_completions():
    assert decode_generate(prompt="a", raw=True) == Completion(("a",))
    assert decode_generate(prompt="a", suffix="z", system="s") == Completion(
        ("a",), suffix="z", extra=(("system", b'"s"'),)
    )
    assert decode_generate(prompt="a", raw=True, options={"num_predict": 3}).sampling.max_tokens == 3


def test_raw_takes_no_template():
    with pytest.raises(InvalidRequest, match="raw mode does not support template, system, or context"):
        decode_generate(prompt="a", raw=True, system="s")


def test_embeddings_take_a_text_or_several():
    assert request.decode_embed(b'{"input":"a"}') == Embedding(("a",))
    assert request.decode_embed(b'{"input":["a","b"],"dimensions":8,"truncate":false}') == Embedding(
        ("a", "b"), dimensions=8, truncate=False
    )
    assert request.decode_embed(b'{"input":""}') == request.decode_embed(b"{}") == Embedding(())
    assert request.decode_embeddings(b'{"prompt":"a","options":{"num_ctx":8}}') == Embedding(
        ("a",), options=(("num_ctx", b"8"),)
    )


@pytest.mark.parametrize("given", [b"5", b"[1]", b"{}", b"[[1,2]]", b"true"])
def test_other_inputs_are_refused(given: bytes):
    with pytest.raises(InvalidRequest, match="invalid input type"):
        request.decode_embed(b'{"input":%b}' % given)
