"""Requests to OpenAI-compatible servers, forwarded and translated."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.domain.content import (
    AgentTask,
    Audio,
    Chat,
    Completion,
    Embedding,
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
from penstock.domain.errors import Unsupported
from penstock.domain.fleet import Model
from penstock.domain.request import Call, Operation
from penstock.engines.openai_compatible.engine import ENGINE
from penstock.engines.openai_compatible.multipart import form_content_type, rename_model
from tests.unit.engines.engine_calls import make_call, translate

HI = Message("user", (Text("hi"),))


def translate_fields(content: Any, **call: Any) -> Any:
    return translate(ENGINE, content, make_call(**call))[1]


def translate_chat(**settings: Any) -> Any:
    return translate_fields(Chat((HI,), **settings))


def translate_message(sent: Message) -> Any:
    return translate_fields(Chat((sent,)))["messages"][0]


def test_a_plain_chat_has_only_the_necessary_fields() -> None:
    outgoing, body = translate(ENGINE, Chat((HI,)))
    assert body == {"model": "served", "messages": [{"role": "user", "content": "hi"}]}
    assert (outgoing.method, outgoing.path, outgoing.stream) == ("POST", "/v1/chat/completions", False)
    assert outgoing.content_type == b"application/json"


def test_a_stream_always_requests_usage() -> None:
    outgoing, body = translate(ENGINE, Chat((HI,)), make_call(stream=True))
    assert outgoing.stream
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (Image(url="https://x"), {"type": "image_url", "image_url": {"url": "https://x"}}),
        (
            Image(data="AAAA", media_type="image/jpeg", detail="low"),
            {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,AAAA", "detail": "low"}},
        ),
        (Image(data="AAAA"), {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}),
        (Audio("AAAA", "wav"), {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}),
        (File(id="f1", name="a"), {"type": "file", "file": {"file_id": "f1", "filename": "a"}}),
        (
            File(data="AAAA", media_type="application/pdf"),
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}},
        ),
    ],
)
def test_parts_are_translated(part: Any, expected: Any) -> None:
    assert translate_message(Message("user", (Text("x"), part)))["content"] == [{"type": "text", "text": "x"}, expected]


@pytest.mark.parametrize("role", ["system", "user", "assistant", "tool"])
def test_several_texts_become_one_string(role: str) -> None:
    message = Message(role, (Text("first line."), Text("second")), tool_call_id="c" if role == "tool" else "")
    assert translate_message(message)["content"] == "first line.\nsecond"


def test_a_document_by_address_is_refused() -> None:
    with pytest.raises(Unsupported, match="Send the document itself"):
        translate_message(Message("user", (File(url="https://x"),)))


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (Message("system", (Text("s"),)), {"role": "system", "content": "s"}),
        (Message("developer", (Text("s"),)), {"role": "system", "content": "s"}),
        (Message("user"), {"role": "user", "content": ""}),
        (Message("user", (Text("a"),), name="n"), {"role": "user", "content": "a", "name": "n"}),
        (Message("assistant"), {"role": "assistant", "content": ""}),
        (Message("assistant", (Text("a"),), thinking="hm"), {"role": "assistant", "content": "a"}),
        (Message("assistant", refusal="no"), {"role": "assistant", "content": None, "refusal": "no"}),
        (
            Message("assistant", tool_calls=(ToolCall("c", "f", "{}"),)),
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            },
        ),
        (
            Message("tool", (Text("r"),), tool_call_id="c"),
            {"role": "tool", "content": "r", "tool_call_id": "c"},
        ),
    ],
)
def test_messages_are_translated(sent: Message, expected: Any) -> None:
    assert translate_message(sent) == expected


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"tools": (Tool("f"),)}, {"tools": [{"type": "function", "function": {"name": "f"}}]}),
        (
            {"tools": (Tool("f", "d", b'{"type":"object"}', True),)},
            {
                "tools": [
                    {
                        "type": "function",
                        "function": {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True},
                    }
                ]
            },
        ),
        ({"tool_choice": ToolChoice("required")}, {"tool_choice": "required"}),
        (
            {"tool_choice": ToolChoice("function", "f")},
            {"tool_choice": {"type": "function", "function": {"name": "f"}}},
        ),
        ({"parallel_tool_calls": False}, {"parallel_tool_calls": False}),
        ({"format": Format()}, {"response_format": {"type": "json_object"}}),
        (
            {"format": Format(b"{}", "n", True, "d")},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "schema": {}, "strict": True, "description": "d"},
                }
            },
        ),
        (
            {"format": Format(b"{}")},
            {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": {}}}},
        ),
        ({"user": "u"}, {"user": "u"}),
        ({"keep_alive": b'"5m"'}, {}),
        ({"thinking": Thinking(effort="low")}, {}),
        (
            {
                "sampling": Sampling(
                    max_tokens=5,
                    temperature=0.5,
                    top_p=0.9,
                    top_k=3,
                    min_p=0.1,
                    seed=0,
                    stop=("a", "b"),
                    presence_penalty=1.0,
                    frequency_penalty=-1.0,
                    repeat_penalty=1.1,
                    n=2,
                )
            },
            {
                "max_tokens": 5,
                "temperature": 0.5,
                "top_p": 0.9,
                "top_k": 3,
                "min_p": 0.1,
                "seed": 0,
                "stop": ["a", "b"],
                "presence_penalty": 1.0,
                "frequency_penalty": -1.0,
                "repetition_penalty": 1.1,
                "n": 2,
            },
        ),
        ({"sampling": Sampling(logprobs=True, top_logprobs=2)}, {"logprobs": True, "top_logprobs": 2}),
    ],
)
def test_settings_are_translated(settings: Any, expected: Any) -> None:
    assert translate_chat(**settings) == translate_chat() | expected


@pytest.mark.parametrize(
    ("thinking", "expected"),
    [
        (Thinking(), None),
        (Thinking(effort="low"), "low"),
        (Thinking(effort="max"), "xhigh"),
        (Thinking(enabled=False), "none"),
    ],
)
def test_thinking_is_requested_of_models_that_can(thinking: Thinking, expected: str | None) -> None:
    outgoing = ENGINE.translate_request(make_call(), Chat((HI,), thinking=thinking), Model("gpt-oss-20b"))
    assert msgspec.json.decode(outgoing.body).get("reasoning_effort") == expected
    assert outgoing.ignored == ()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (Completion(("a",)), {"prompt": "a"}),
        (Completion(("a", "b")), {"prompt": ["a", "b"]}),
        (Completion(((1, 2),)), {"prompt": [1, 2]}),
        (Completion((), suffix="z", echo=True), {"prompt": "", "suffix": "z", "echo": True}),
        (Completion(("a",), sampling=Sampling(logprobs=True)), {"prompt": "a", "logprobs": 0}),
        (Completion(("a",), sampling=Sampling(logprobs=True, top_logprobs=3)), {"prompt": "a", "logprobs": 3}),
        (Completion(("a",), format=Format()), {"prompt": "a", "response_format": {"type": "json_object"}}),
    ],
)
def test_completions_are_translated(content: Completion, expected: Any) -> None:
    outgoing, body = translate(ENGINE, content, make_call(operation=Operation.COMPLETION))
    assert outgoing.path == "/v1/completions"
    assert body == {"model": "served"} | expected


def test_images_in_raw_completions_are_refused() -> None:
    with pytest.raises(Unsupported, match="images"):
        translate_fields(Completion(("a",), images=(Image("AAAA"),)))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (Embedding(("a",)), {"input": "a", "encoding_format": "float"}),
        (Embedding(("a", "b"), base64=True), {"input": ["a", "b"], "encoding_format": "base64"}),
        (Embedding(((1, 2),), dimensions=8), {"input": [1, 2], "encoding_format": "float", "dimensions": 8}),
    ],
)
def test_embeddings_are_translated(content: Embedding, expected: Any) -> None:
    outgoing, body = translate(ENGINE, content, make_call(operation=Operation.EMBEDDING))
    assert outgoing.path == "/v1/embeddings"
    assert body == {"model": "served"} | expected


def test_agent_tasks_are_refused() -> None:
    with pytest.raises(Unsupported, match="cannot run agent tasks"):
        translate_fields(AgentTask("do it"))


def test_counting_is_refused_by_default() -> None:
    with pytest.raises(Unsupported, match="count"):
        translate_fields(Chat((HI,)), operation=Operation.COUNT)


@pytest.mark.parametrize("name", ["num_ctx", "num_gpu", "num_thread", "use_mmap", "tfs_z", "truncate", "shift", "raw"])
def test_load_options_of_other_servers_are_ignored(name: str) -> None:
    assert translate_chat(options=((name, b"7"),)) == translate_chat()
    assert translate_chat(extra=((name, b"true"),)) == translate_chat()


@pytest.mark.parametrize("name", ["client_metadata", "cosmic_rays", "mirostat", "num_ctx", "keep_alive"])
def test_unknown_fields_are_left_out_and_named(name: str) -> None:
    outgoing, body = translate(ENGINE, Chat((HI,), extra=((name, b'"x"'),)))
    assert outgoing.ignored == (name,)
    assert name not in body


@pytest.mark.parametrize("name", ["template", "context", "grammar", "guided_json", "stop_token_ids"])
def test_fields_that_would_change_the_answer_are_refused_by_name(name: str) -> None:
    with pytest.raises(Unsupported) as caught:
        translate_chat(extra=((name, b'"x"'),))
    assert caught.value.param == name
    assert name in caught.value.message
    assert ENGINE.title in caught.value.message


@pytest.mark.parametrize("value", [b"null", b"false", b"[]", b"{}", b'""'])
def test_unset_values_are_ignored(value: bytes) -> None:
    assert translate_chat(extra=(("cosmic_rays", value),)) == translate_chat()


@pytest.mark.parametrize(("name", "value"), [("mirostat", b"0"), ("typical_p", b"1.0")])
def test_an_option_that_is_turned_off_is_ignored(name: str, value: bytes) -> None:
    assert translate_chat(options=((name, value),)) == translate_chat()


@pytest.mark.parametrize("value", [b"0", b"0.0", None])
def test_mirostats_parameters_are_ignored_while_it_is_off(value: bytes | None) -> None:
    switch = () if value is None else (("mirostat", value),)
    assert translate_chat(options=(*switch, ("mirostat_eta", b"0.1"), ("mirostat_tau", b"5"))) == translate_chat()


def test_fields_of_openais_own_wires_are_forwarded_unchanged() -> None:
    body = translate_fields(Chat((HI,), extra=(("cosmic_rays", b'{"a":[1.50]}'),)), wire="openai.chat")
    assert body["cosmic_rays"] == {"a": [1.5]}


def forward_body(body: bytes, requested: str, served: str) -> bytes:
    return ENGINE.forward_request(Call("openai.chat", Operation.CHAT, requested, False, body), Model(served)).body


def test_the_body_is_forwarded_unchanged_if_the_name_matches() -> None:
    body = b'{ "model" : "tiny", "messages":[1] , "x":1.50}'
    assert forward_body(body, "tiny", "tiny") is body


@pytest.mark.parametrize("body", [b'{"model":"tiny","x":1.50}', b'{"x":1.50}', b'{"model":null,"x":1.50}'])
def test_only_the_name_is_changed(body: bytes) -> None:
    sent = forward_body(body, "tiny", 'a"б')
    assert msgspec.json.decode(sent) == {"model": 'a"б', "x": 1.5}
    assert b"1.50" in sent


json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(
    st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), json, max_size=5),
    st.text(st.characters(codec="utf-8")),
)
def test_renaming_changes_nothing_else(body: dict[str, Any], name: str) -> None:
    sent = msgspec.json.decode(forward_body(msgspec.json.encode(body), name + "x", name))
    assert sent == body | {"model": name}


@pytest.mark.parametrize(
    ("wire", "path"),
    [
        ("openai.chat", "/v1/chat/completions"),
        ("openai.completions", "/v1/completions"),
        ("openai.embeddings", "/v1/embeddings"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_every_wire_has_its_path(wire: str, path: str, stream: bool) -> None:
    outgoing = ENGINE.forward_request(Call(wire, Operation.CHAT, "m", stream, b"{}"), Model("m"))
    assert (outgoing.path, outgoing.stream) == (path, stream)


FILE = b'--XX\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nname="model"\r\n\x00\r\n'
NAMED = b'--XX\r\nContent-Disposition: form-data; name="model"\r\n\r\n%b\r\n'
LANGUAGE = b'--XX\r\nContent-Disposition: form-data; name="language"\r\n\r\nru\r\n'
END = b"--XX--\r\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (NAMED % b"a" + FILE + END, NAMED % b"b" + FILE + END),
        (FILE + NAMED % b"a" + END, FILE + NAMED % b"b" + END),
        (FILE + NAMED % b"a" + LANGUAGE + END, FILE + NAMED % b"b" + LANGUAGE + END),
        (FILE + END, NAMED % b"b" + FILE + END),
    ],
)
def test_the_model_in_a_form_is_replaced(before: bytes, after: bytes) -> None:
    assert rename_model(before, "b") == after
    outgoing = ENGINE.forward_request(
        Call("openai.transcriptions", Operation.COMPLETION, "a", False, before), Model("b")
    )
    assert (outgoing.body, outgoing.path) == (after, "/v1/audio/transcriptions")
    assert outgoing.content_type == b"multipart/form-data; boundary=XX"


def test_a_form_is_forwarded_unchanged_if_the_name_matches() -> None:
    body = FILE + NAMED % b"a" + END
    assert (
        ENGINE.forward_request(Call("openai.transcriptions", Operation.COMPLETION, "a", False, body), Model("a")).body
        is body
    )
    assert form_content_type(body) == b"multipart/form-data; boundary=XX"


def test_a_key_is_a_bearer_token() -> None:
    assert ENGINE.authorization_headers("sk-1") == ((b"authorization", b"Bearer sk-1"),)
    assert ENGINE.authorization_headers("") == ()
