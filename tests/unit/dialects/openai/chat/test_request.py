"""Decoding of complete chat requests: every form that clients send, and the errors for invalid ones."""

from typing import Any

import msgspec
import pytest

from penstock.dialects.openai.chat.endpoints import ChatEndpoint
from penstock.domain.content import (
    Audio,
    Chat,
    File,
    Format,
    Image,
    Message,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
)
from penstock.domain.errors import InvalidRequest

CHAT = ChatEndpoint()
HI = {"role": "user", "content": "hi"}
PNG = "iVBORw0KGgo="


def decode(**fields: Any) -> Chat:
    body = msgspec.json.encode({"model": "m", "messages": [HI]} | fields)
    content = CHAT.decode_content(CHAT.parse_request(body, b""))
    assert isinstance(content, Chat)
    return content


def message(**fields: Any) -> Message:
    return decode(messages=[fields]).messages[0]


def part(**fields: Any) -> Any:
    return message(role="user", content=[fields]).parts[0]


def test_a_minimal_request_sets_nothing_else() -> None:
    assert decode() == Chat((Message("user", (Text("hi"),)),))


@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant"])
def test_roles_stay_unchanged(role: str) -> None:
    assert message(role=role, content="x") == Message(role, (Text("x"),))


@pytest.mark.parametrize("content", ["", None, []])
def test_empty_content_is_no_part(content: Any) -> None:
    assert message(role="assistant", content=content).parts == ()


def test_missing_content_is_no_part() -> None:
    assert message(role="assistant", tool_calls=[]).parts == ()


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ({"type": "text", "text": "a"}, Text("a")),
        ({"type": "text", "text": "Привет 🙂"}, Text("Привет 🙂")),
        ({"type": "input_text", "text": "a"}, Text("a")),
        ({"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}, Image(url="https://x.test/a.png")),
        ({"type": "image_url", "image_url": "http://x.test/a.png"}, Image(url="http://x.test/a.png")),
        (
            {"type": "image_url", "image_url": {"url": "https://x.test/a.png", "detail": "low"}},
            Image(url="https://x.test/a.png", detail="low"),
        ),
        (
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
            Image(data=PNG, media_type="image/png"),
        ),
        (
            {"type": "image_url", "image_url": {"url": f"data:image/svg+xml;charset=utf-8;base64,{PNG}"}},
            Image(data=PNG, media_type="image/svg+xml"),
        ),
        ({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}, Audio("AAAA", "wav")),
        ({"type": "file", "file": {"file_id": "file-1"}}, File(id="file-1")),
        (
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBE", "filename": "a.pdf"}},
            File(data="JVBE", media_type="application/pdf", name="a.pdf"),
        ),
        ({"type": "file", "file": {"file_data": "JVBE"}}, File(data="JVBE")),
    ],
)
def test_parts_are_read(sent: dict[str, Any], read: Any) -> None:
    assert part(**sent) == read


def test_parts_keep_their_order() -> None:
    read = message(
        role="user",
        content=[
            {"type": "text", "text": "a"},
            {"type": "image_url", "image_url": {"url": "https://x.test/"}},
            {"type": "text", "text": "b"},
        ],
    )
    assert read.parts == (Text("a"), Image(url="https://x.test/"), Text("b"))


@pytest.mark.parametrize(
    ("sent", "param", "words"),
    [
        ({"type": "text"}, "messages[0].content[0]", "text` is missing"),
        ({"type": "image_url"}, "messages[0].content[0]", "image_url` is missing"),
        ({"type": "input_audio"}, "messages[0].content[0]", "input_audio` is missing"),
        ({"type": "file"}, "messages[0].content[0]", "file` is missing"),
        ({"type": "file", "file": {}}, "messages[0].content[0]", "file_data"),
        ({"type": "image_url", "image_url": {"url": "ftp://x"}}, "messages[0].content[0]", "http(s)"),
        ({"type": "image_url", "image_url": {"url": "data:image/png,abc"}}, "messages[0].content[0]", "data URI"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}, "messages[0].content[0]", "data URI"),
        ({"type": "image_url", "image_url": {"url": "data:"}}, "messages[0].content[0]", "data URI"),
        ({"type": "image_url", "image_url": {}}, "messages[0].content[0].image_url.url", "missing"),
        ({"type": "input_audio", "input_audio": {"data": "A"}}, "messages[0].content[0].input_audio.format", "missing"),
        ({"text": "a"}, "messages[0].content[0].type", "missing"),
        ({"type": 3}, "messages[0].content[0].type", "must be text"),
        ({"type": "video_url", "video_url": {"url": "https://x"}}, "messages[0].content[0]", "video_url"),
    ],
)
def test_a_bad_part_is_named(sent: dict[str, Any], param: str, words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        part(**sent)
    assert caught.value.param == param
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        ({"content": "x"}, "messages[0].role"),
        ({"role": "robot", "content": "x"}, "messages[0].role"),
        ({"role": 3, "content": "x"}, "messages[0].role"),
        ({"role": "user", "content": 3}, "messages[0].content"),
        ({"role": "user", "content": {"type": "text"}}, "messages[0].content"),
        ({"role": "user", "content": [3]}, "messages[0].content[0]"),
        ({"role": "assistant", "tool_calls": {}}, "messages[0].tool_calls"),
        ({"role": "assistant", "tool_calls": [{"function": {}}]}, "messages[0].tool_calls[0].function.name"),
        ({"role": "assistant", "tool_calls": [{"id": "a", "type": "custom"}]}, "messages[0].tool_calls[0]"),
        ({"role": "tool", "tool_call_id": 3, "content": ""}, "messages[0].tool_call_id"),
    ],
)
def test_a_bad_message_is_named(sent: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        message(**sent)
    assert caught.value.param == param


def test_tool_calls_and_their_results_are_read() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    chat = decode(
        messages=[
            HI,
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "2"},
        ]
    )
    assert chat.messages[1] == Message("assistant", tool_calls=(ToolCall("c1", "f", '{"a": 1}'),))
    assert chat.messages[2] == Message("tool", (Text("2"),), tool_call_id="c1")


@pytest.mark.parametrize(("arguments", "text"), [("", ""), ('{"a":', '{"a":'), ({"a": 1}, '{"a":1}'), (None, "{}")])
def test_arguments_stay_as_the_model_wrote_them(arguments: Any, text: str) -> None:
    read = message(role="assistant", tool_calls=[{"id": "c", "function": {"name": "f", "arguments": arguments}}])
    assert read.tool_calls[0].arguments == text


def test_deprecated_functions_become_tools_with_linked_calls_and_results() -> None:
    chat = decode(
        functions=[{"name": "f", "description": "d", "parameters": {"type": "object"}}],
        function_call={"name": "f"},
        messages=[
            HI,
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": "2"},
        ],
    )
    assert chat.tools == (Tool("f", "d", b'{"type":"object"}'),)
    assert chat.tool_choice == ToolChoice("function", "f")
    (call,) = chat.messages[1].tool_calls
    assert (call.name, call.arguments) == ("f", "{}")
    assert chat.messages[2] == Message("tool", (Text("2"),), tool_call_id=call.id, name="f")


def test_repeated_calls_of_one_function_have_different_ids() -> None:
    turn = [
        {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "2"},
    ]
    read = decode(messages=[HI, *turn, *turn, *turn]).messages
    ids = [message.tool_calls[0].id for message in read if message.tool_calls]
    assert len(set(ids)) == 3
    assert ids == [message.tool_call_id for message in read if message.role == "tool"]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_thinking_of_earlier_turns_is_read(name: str) -> None:
    assert message(role="assistant", content="x", **{name: "hmm"}).thinking == "hmm"


def test_a_refusal_is_read_in_both_forms() -> None:
    assert message(role="assistant", content=None, refusal="no").refusal == "no"
    assert message(role="assistant", content=[{"type": "refusal", "refusal": "no"}]).refusal == "no"


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ({"name": "f"}, Tool("f")),
        ({"name": "f", "description": "d"}, Tool("f", "d")),
        ({"name": "f", "parameters": None}, Tool("f")),
        ({"name": "f", "parameters": {"type": "object", "x": [1]}}, Tool("f", "", b'{"type":"object","x":[1]}')),
        ({"name": "f", "strict": True}, Tool("f", strict=True)),
        ({"name": "f", "strict": False}, Tool("f", strict=False)),
        ({"name": "f", "future": 1}, Tool("f")),
    ],
)
def test_tools_are_read(sent: dict[str, Any], read: Tool) -> None:
    assert decode(tools=[{"type": "function", "function": sent}]).tools == (read,)


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        ([{"type": "function"}], "tools[0].function"),
        ([{"type": "function", "function": {}}], "tools[0].function.name"),
        ({}, "tools"),
    ],
)
def test_a_bad_tool_is_named(tools: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(tools=tools)
    assert caught.value.param == param


def test_tools_of_a_provider_are_left_out_and_named() -> None:
    chat = decode(tools=[{"type": "web_search"}, {"type": "function", "function": {"name": "f"}}, {"type": "custom"}])
    assert (chat.tools, chat.ignored) == ((Tool("f"),), ("tools.web_search", "tools.custom"))
    chat = decode(tools=[{"type": "web_search"}], tool_choice="required")
    assert (chat.tool_choice, chat.ignored) == (None, ("tools.web_search", "tool_choice"))


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (None, None),
        ("", None),
        ("any", ToolChoice("required")),
        ({"type": "allowed_tools", "allowed_tools": {}}, None),
        ("auto", ToolChoice("auto")),
        ("none", ToolChoice("none")),
        ("required", ToolChoice("required")),
        ({"type": "function", "function": {"name": "f"}}, ToolChoice("function", "f")),
    ],
)
def test_the_choice_of_tools_is_read(sent: Any, read: ToolChoice | None) -> None:
    assert decode(tool_choice=sent).tool_choice == read


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        ("some", InvalidRequest),
        (3, InvalidRequest),
    ],
)
def test_a_bad_choice_of_tools_is_named(sent: Any, error: type[InvalidRequest]) -> None:
    with pytest.raises(error) as caught:
        decode(tool_choice=sent)
    assert caught.value.param == "tool_choice"


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (None, None),
        ({"type": "text"}, None),
        ({}, None),
        ({"type": "json_object"}, Format()),
        ({"type": "json_object", "schema": {"type": "array"}}, Format(b'{"type":"array"}')),
        ({"type": "json_schema", "json_schema": {"schema": {"a": 1}}}, Format(b'{"a":1}')),
        (
            {"type": "json_schema", "json_schema": {"name": "n", "description": "d", "strict": True, "schema": {}}},
            Format(b"{}", "n", True, "d"),
        ),
    ],
)
def test_the_response_format_is_read(sent: Any, read: Format | None) -> None:
    assert decode(response_format=sent).format == read


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        ({"type": "json_schema"}, "response_format.json_schema"),
        ({"type": "json_schema", "json_schema": {"name": "n"}}, "response_format.json_schema"),
        ({"type": "grammar"}, "response_format"),
        ("json", "response_format"),
    ],
)
def test_a_bad_response_format_is_named(sent: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(response_format=sent)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("fields", "read"),
    [
        ({"max_tokens": 5}, Sampling(max_tokens=5)),
        ({"max_tokens": 5, "max_completion_tokens": 6}, Sampling(max_tokens=6)),
        ({"temperature": 0}, Sampling(temperature=0)),
        ({"temperature": 0.5, "top_p": 0.9}, Sampling(temperature=0.5, top_p=0.9)),
        ({"top_k": 3, "min_p": 0.1}, Sampling(top_k=3, min_p=0.1)),
        ({"seed": 0}, Sampling(seed=0)),
        ({"stop": "a"}, Sampling(stop=("a",))),
        ({"stop": ["a", "b"]}, Sampling(stop=("a", "b"))),
        ({"stop": None}, Sampling()),
        ({"presence_penalty": 1, "frequency_penalty": -1}, Sampling(presence_penalty=1, frequency_penalty=-1)),
        ({"repetition_penalty": 1.1}, Sampling(repeat_penalty=1.1)),
        ({"repeat_penalty": 1.2}, Sampling(repeat_penalty=1.2)),
        ({"n": 2}, Sampling(n=2)),
        ({"logprobs": True, "top_logprobs": 3}, Sampling(logprobs=True, top_logprobs=3)),
        ({"logprobs": False}, Sampling()),
        ({"logprobs": None, "top_logprobs": None}, Sampling()),
    ],
)
def test_sampling_is_read(fields: dict[str, Any], read: Sampling) -> None:
    assert decode(**fields).sampling == read


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": []}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 1.5}, "n"),
        ({"stop": 3}, "stop"),
        ({"stop": ["a", 3]}, "stop[1]"),
        ({"seed": "x"}, "seed"),
        ({"logprobs": 3}, "logprobs"),
        ({"top_logprobs": "x"}, "top_logprobs"),
        ({"parallel_tool_calls": "x"}, "parallel_tool_calls"),
        ({"user": 3}, "user"),
    ],
)
def test_a_field_of_the_wrong_type_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("fields", "read"),
    [
        ({}, None),
        ({"reasoning_effort": None}, None),
        ({"reasoning_effort": "low"}, Thinking(effort="low")),
        ({"reasoning_effort": "minimal"}, Thinking(effort="minimal")),
        ({"reasoning_effort": "xhigh"}, Thinking(effort="max")),
        ({"reasoning_effort": "none"}, Thinking(enabled=False)),
        ({"reasoning": {"effort": "high"}}, Thinking(effort="high")),
        ({"reasoning": {"max_tokens": 100}}, Thinking(budget=100)),
        ({"reasoning": {"enabled": True}}, Thinking()),
        ({"reasoning": {"enabled": False}}, Thinking(enabled=False)),
        ({"reasoning": {}}, None),
        ({"reasoning_effort": "ultra"}, Thinking(effort="max")),
        ({"thinking": {"type": "enabled", "budget_tokens": 9}}, Thinking(budget=9)),
        ({"thinking": {"type": "disabled"}}, Thinking(enabled=False)),
        ({"enable_thinking": True}, Thinking()),
        ({"think": True}, Thinking()),
        ({"think": False}, Thinking(enabled=False)),
        ({"think": "medium"}, Thinking(effort="medium")),
        ({"chat_template_kwargs": {"enable_thinking": True}}, Thinking()),
        ({"chat_template_kwargs": {"enable_thinking": False}}, Thinking(enabled=False)),
        ({"chat_template_kwargs": {"enable_thinking": True, "reasoning_effort": "low"}}, Thinking(effort="low")),
        ({"thinking_budget_tokens": 64}, Thinking(budget=64)),
    ],
)
def test_every_way_to_request_thinking_is_understood(fields: dict[str, Any], read: Thinking | None) -> None:
    chat = decode(**fields)
    assert chat.thinking == read
    assert chat.extra == ()


def test_a_wish_to_think_knows_the_fields_that_made_it() -> None:
    thinking = decode(reasoning_effort="low", think=True).thinking
    assert thinking is not None
    assert thinking.fields == ("reasoning_effort", "think")


def test_settings_of_ollamas_clients_are_understood() -> None:
    options = {"num_ctx": 8192, "temperature": 0.5, "num_predict": 9, "stop": ["x"]}
    chat = decode(options=options, format={"type": "object"}, temperature=0.1)
    assert chat.options == (("num_ctx", b"8192"),)
    assert chat.sampling == Sampling(max_tokens=9, temperature=0.1, stop=("x",))
    assert chat.format == Format(b'{"type":"object"}')
    assert decode(format="json").format == Format()


def test_the_user_is_kept() -> None:
    assert decode(user="u1").user == "u1"


@pytest.mark.parametrize(
    ("name", "value", "json"),
    [
        ("logit_bias", {"1": 2}, b'{"1":2}'),
        ("guided_json", {"a": [1, "б"]}, '{"a":[1,"б"]}'.encode()),
        ("ignore_eos", True, b"true"),
        ("metadata", {"a": "b"}, b'{"a":"b"}'),
        ("store", True, b"true"),
        ("modalities", ["text", "audio"], b'["text","audio"]'),
        ("chat_template_kwargs", {"enable_thinking": False, "x": 1}, b'{"enable_thinking":false,"x":1}'),
    ],
)
def test_unknown_fields_are_carried_unchanged(name: str, value: Any, json: bytes) -> None:
    assert decode(**{name: value}).extra == ((name, json),)


@pytest.mark.parametrize(("name", "value"), [("logit_bias", None), ("modalities", ["text"])])
def test_empty_fields_are_not_carried(name: str, value: Any) -> None:
    assert decode(**{name: value}).extra == ()
