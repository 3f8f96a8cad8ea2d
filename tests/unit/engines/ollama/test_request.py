"""Requests to Ollama, forwarded and translated."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.dialects.ollama import DIALECT, request
from penstock.domain.content import (
    AgentTask,
    Audio,
    Chat,
    Completion,
    Content,
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
from penstock.engines.ollama.engine import ENGINE
from penstock.engines.system_messages import merge_system_messages

WIRES = {endpoint.wire: endpoint for endpoint in DIALECT.endpoints}
MODEL = Model("llama3.1:latest", capabilities=frozenset({"completion"}))
ASKED = Call("openai.chat", Operation.CHAT, "gpt", True, b"{}")
THINKER = Model("qwen3", capabilities=frozenset({"completion", "tools", "thinking"}))
HELLO = Message("user", (Text("hello"),))


def translate(content: Content, call: Call = ASKED, model: Model = MODEL) -> dict[str, object]:
    return json.loads(ENGINE.translate_request(call, content, model).body)


def forward(act: str, body: bytes, model: Model = MODEL) -> bytes:
    return ENGINE.forward_request(WIRES[f"ollama.{act}"].parse_request(body, b""), model).body


@pytest.mark.parametrize("name", [b"llama3.1", b"llama3.1:latest", b"LLAMA3.1", b"Llama3.1:Latest"])
def test_a_name_that_ollama_resolves_leaves_the_body_unchanged(name: bytes):
    body = b'{ "model": "%b",  "messages": [{"role":"user","content":"x"}], "new_field": 1e400 }' % name
    assert forward("chat", body) == body


def test_another_models_name_is_replaced_and_the_rest_kept_to_the_byte():
    body = (
        b'{"messages":[ {"role":"user","content":"\\u00e9"} ],"Model":"auto","options":{"big":12345678901234567890123}}'
    )
    out = forward("chat", body)
    assert json.loads(out) == {"model": "llama3.1:latest"} | {k: v for k, v in json.loads(body).items() if k != "Model"}
    assert b'[ {"role":"user","content":"\\u00e9"} ]' in out


def test_the_model_is_replaced_in_a_body_with_trailing_data_too():
    out = forward("generate", b'{"model":"auto","prompt":"x\xff"} {"and": "more"}')
    assert json.loads(out) == {"model": "llama3.1:latest", "prompt": "x\ufffd"}


def test_the_older_embeddings_need_the_exact_name():
    assert json.loads(forward("embeddings", b'{"model":"LLAMA3.1","prompt":"x"}'))["model"] == "llama3.1:latest"
    assert json.loads(forward("embed", b'{"model":"LLAMA3.1","input":"x"}'))["model"] == "LLAMA3.1"


def test_management_bodies_are_forwarded_without_the_server_name():
    assert forward("pull", b'{"name":"other","server":"gpu","insecure":true}') == b'{"name":"other","insecure":true}'
    assert forward("pull", b'{"name": "other"}') == b'{"name": "other"}'
    delete = ENGINE.forward_request(WIRES["ollama.delete"].parse_request(b'{"model":"m"}', b""), MODEL)
    assert (delete.method, delete.path, delete.body, delete.stream) == (
        "DELETE",
        "/api/delete",
        b'{"model":"m"}',
        False,
    )


def test_every_wire_of_the_dialect_is_native():
    assert dict(ENGINE.native_paths) == {endpoint.wire: endpoint.paths[0] for endpoint in DIALECT.endpoints}


def test_a_plain_chat_has_no_extra_fields():
    assert translate(Chat((HELLO,))) == {
        "model": "llama3.1:latest", "stream": True, "messages": [{"role": "user", "content": "hello"}]
    }  # fmt: skip


def test_all_supported_settings_are_sent_under_ollamas_names():
    sampling = Sampling(
        max_tokens=5,
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        min_p=0.1,
        seed=7,
        stop=("a",),
        presence_penalty=1.0,
        frequency_penalty=2.0,
        repeat_penalty=1.1,
        n=1,
        logprobs=True,
        top_logprobs=3,
    )
    content = Chat(
        (HELLO,), (Tool("f", "d", b"{}"),), ToolChoice("auto"), None, Format(b'{"a":1}'), sampling,
        Thinking(effort="minimal"), b'"5m"', "someone", (("num_ctx", b"4096"),), (("truncate", b"false"),),
    )  # fmt: skip
    assert translate(content, model=THINKER) == {
        "model": "qwen3",
        "stream": True,
        "messages": [{"role": "user", "content": "hello"}],
        "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {}}}],
        "format": {"a": 1},
        "think": "low",
        "logprobs": True,
        "top_logprobs": 3,
        "keep_alive": "5m",
        "truncate": False,
        "options": {
            "num_predict": 5, "temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.1, "seed": 7, "stop": ["a"],
            "presence_penalty": 1.0, "frequency_penalty": 2.0, "repeat_penalty": 1.1, "num_ctx": 4096,
        },
    }  # fmt: skip


def test_roles_images_and_tool_results_are_translated():
    messages = (
        Message("developer", (Text("be"), Text(" brief"))),
        Message("user", (Image("AAAA", "image/png"), Text("look"))),
        Message("assistant", tool_calls=(ToolCall("a", "f", '{"x": 1}'), ToolCall("b", "g", "{broken")), thinking="hm"),
        Message("tool", (Text("42"),), tool_call_id="a"),
    )
    assert translate(Chat(messages))["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "look", "images": ["AAAA"]},
        {
            "role": "assistant",
            "content": "",
            "thinking": "hm",
            "tool_calls": [
                {"id": "a", "function": {"index": 0, "name": "f", "arguments": {"x": 1}}},
                {"id": "b", "function": {"index": 1, "name": "g", "arguments": {"arguments": "{broken"}}},
            ],
        },
        {"role": "tool", "content": "42", "tool_name": "f", "tool_call_id": "a"},
    ]


@pytest.mark.parametrize(
    ("thinking", "think"),
    [
        (Thinking(False), False),
        (Thinking(), True),
        (Thinking(effort="max"), "max"),
        (Thinking(effort="xhigh"), "max"),
        (Thinking(budget=100), True),
    ],
)
def test_thinking_is_translated_for_ollama(thinking: Thinking, think: object):
    assert translate(Chat((HELLO,), thinking=thinking), model=THINKER)["think"] == think


@pytest.mark.parametrize("model", [MODEL, Model("old"), Model("gemma3:1b")])
def test_thinking_is_left_out_and_named_for_models_that_cannot_think(model: Model):
    wish = Chat((HELLO,), thinking=Thinking(effort="high", fields=("thinking", "output_config.effort")))
    outgoing = ENGINE.translate_request(ASKED, wish, model)
    assert "think" not in json.loads(outgoing.body)
    assert outgoing.ignored == ("thinking", "output_config.effort")


def test_thinking_that_a_client_of_ollama_requests_is_left_to_ollama():
    assert translate(Chat((HELLO,), thinking=Thinking(is_required=True)))["think"] is True


def test_a_family_that_thinks_is_known_by_name_where_the_server_says_nothing():
    assert translate(Chat((HELLO,), thinking=Thinking()), model=Model("qwen3:8b"))["think"] is True


@pytest.mark.parametrize(
    ("content", "ignored"),
    [
        (
            Chat((HELLO,), extra=(("logit_bias", b'{"5":1}'), ("client_metadata", b'{"a":1}'))),
            "logit_bias, client_metadata",
        ),
        (Chat((HELLO,), extra=(("store", b"false"), ("n", b"1"), ("service_tier", b'"auto"'))), ""),
        (Chat((HELLO,), user="u", options=(("new_option", b"1"),)), "user, new_option"),
        (Completion(("a",), extra=(("best_of", b"3"),)), "best_of"),
        (Completion(("a",), extra=(("best_of", b"1"),)), ""),
        (Embedding(("a",), options=(("input_type", b'"query"'),)), "input_type"),
    ],
)
def test_fields_without_a_meaning_for_ollama_are_left_out_and_named(content: Content, ignored: str):
    outgoing = ENGINE.translate_request(ASKED, content, MODEL)
    assert ", ".join(outgoing.ignored) == ignored
    assert not set(json.loads(outgoing.body)) & set(outgoing.ignored)


def test_any_json_is_requested_by_name_and_no_tools_by_sending_none():
    content = Chat((HELLO,), (Tool("f"),), ToolChoice("none"), parallel_tool_calls=False, format=Format())
    assert "tools" not in translate(content)
    assert translate(content)["format"] == "json"


def test_options_of_an_openai_client_reach_ollama():
    extra = (("keep_alive", b"-1"), ("num_ctx", b"8192"), ("metadata", b'{"a":1}'), ("logit_bias", b"{}"))
    fields = translate(Chat((HELLO,), extra=extra))
    assert (fields["keep_alive"], fields["options"]) == (-1, {"num_ctx": 8192})
    assert not {"metadata", "logit_bias"} & set(fields)


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (Chat((HELLO,), sampling=Sampling(n=2)), "n"),
        (Chat((HELLO,), options=(("guided_regex", b'"x"'),)), "guided_regex"),
        (Chat((Message("user", (Image(url="https://example.org/a.png"),)),)), "image_url"),
        (Chat((Message("user", (Audio("AAAA", "wav"),)),)), "audio"),
        (Chat((Message("user", (File("AAAA", "application/pdf"),)),)), "files"),
        (Completion(("a", "b")), "prompt"),
        (Completion(((1, 2),)), "prompt"),
        (Completion(("a",), echo=True), "echo"),
        (Embedding(((1, 2),)), "input"),
    ],
)
def test_unsupported_fields_are_refused_by_name(content: Content, field: str):
    with pytest.raises(Unsupported, match=f"^Ollama does not support `{field}`") as raised:
        translate(content)
    assert (raised.value.status, raised.value.param) == (400, field)


def test_an_image_address_is_refused_with_advice():
    with pytest.raises(Unsupported, match="base64"):
        translate(Chat((Message("user", (Image(url="https://example.org/a.png"),)),)))


def test_counting_and_agent_tasks_are_refused():
    with pytest.raises(Unsupported, match="count tokens"):
        translate(Chat((HELLO,)), Call("anthropic.count_tokens", Operation.COUNT, "m", False, b""))
    with pytest.raises(Unsupported, match="agent tasks"):
        translate(AgentTask("win"))


def test_completions_are_raw_unless_there_is_a_suffix():
    assert translate(Completion(("a",), sampling=Sampling(max_tokens=3))) == {
        "model": "llama3.1:latest", "stream": True, "prompt": "a", "raw": True, "options": {"num_predict": 3}
    }  # fmt: skip
    assert translate(Completion(("a",), suffix="z")) == {
        "model": "llama3.1:latest", "stream": True, "prompt": "a", "suffix": "z"
    }  # fmt: skip


def test_embeddings_are_requested_all_at_once():
    outgoing = ENGINE.translate_request(ASKED, Embedding(("a", "b"), dimensions=8, base64=True), MODEL)
    assert (outgoing.path, outgoing.stream) == ("/api/embed", False)
    assert json.loads(outgoing.body) == {"model": "llama3.1:latest", "input": ["a", "b"], "dimensions": 8}


TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
OBJECTS = st.dictionaries(TEXTS, TEXTS | st.integers(-9, 9), max_size=3)
IMAGES = st.lists(st.sampled_from(["/9j/AAAA", "iVBORw0K"]), max_size=2)
FLOATS = st.floats(0, 2, width=32)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "num_predict": st.integers(0, 9999), "temperature": FLOATS, "top_p": FLOATS, "top_k": st.integers(0, 99),
        "min_p": FLOATS, "seed": st.integers(0, 2**40), "stop": st.lists(TEXTS, min_size=1, max_size=3),
        "presence_penalty": FLOATS, "frequency_penalty": FLOATS, "repeat_penalty": FLOATS,
        "num_ctx": st.integers(4, 9999), "num_keep": st.integers(0, 9),
    },
)  # fmt: skip
CALLS = st.lists(
    st.fixed_dictionaries(
        {"function": st.fixed_dictionaries({"name": TEXTS, "arguments": OBJECTS})}, optional={"id": TEXTS}
    ),
    max_size=2,
)
MESSAGES = st.one_of(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user"]), "content": TEXTS, "images": IMAGES}),
    st.fixed_dictionaries({"role": st.just("assistant"), "content": st.just("") | TEXTS, "tool_calls": CALLS}),
    st.fixed_dictionaries({"role": st.just("assistant"), "content": TEXTS, "thinking": TEXTS}),
    st.fixed_dictionaries({"role": st.just("tool"), "content": TEXTS, "tool_name": TEXTS}),
)
COMMON = {
    "options": OPTIONS,
    "format": st.just("json") | OBJECTS,
    "think": st.booleans() | st.sampled_from(["low", "medium", "high", "max"]),
    "keep_alive": st.sampled_from([0, -1, 2.5, "5m", "1h30m"]),
    "truncate": st.booleans(),
    "shift": st.booleans(),
    "logprobs": st.booleans(),
    "top_logprobs": st.integers(0, 20),
}
DECLARED = st.fixed_dictionaries({"name": TEXTS}, optional={"description": TEXTS, "parameters": OBJECTS})
TOOLS = st.lists(st.fixed_dictionaries({"type": st.just("function"), "function": DECLARED}), max_size=2)


@settings(deadline=None)
@given(st.fixed_dictionaries({"messages": st.lists(MESSAGES, max_size=4)}, optional=COMMON | {"tools": TOOLS}))
def test_a_chat_survives_decoding_and_encoding(body: dict[str, object]):
    content = request.decode_chat(json.dumps(body).encode())
    again = request.decode_chat(ENGINE.translate_request(ASKED, content, MODEL).body)
    merged = replace(content, messages=merge_system_messages(content.messages, keeps_later=True))
    assert _plain(again) == _plain(merged)


@settings(deadline=None)
@given(
    st.fixed_dictionaries(
        {"prompt": TEXTS, "raw": st.just(True)} | {"images": IMAGES}, optional=COMMON | {"suffix": st.just("")}
    )
    | st.fixed_dictionaries({"prompt": TEXTS, "suffix": TEXTS}, optional=COMMON | {"system": TEXTS, "template": TEXTS})
)
def test_a_completion_survives_decoding_and_encoding(body: dict[str, object]):
    content = request.decode_generate(json.dumps(body).encode())
    assert isinstance(content, Completion)
    again = request.decode_generate(ENGINE.translate_request(ASKED, content, MODEL).body)
    assert _plain(again) == _plain(content)


@settings(deadline=None)
@given(
    st.fixed_dictionaries(
        {"input": st.lists(TEXTS)}, optional={"dimensions": st.integers(1, 9), "truncate": st.booleans()}
    )
)
def test_an_embedding_survives_decoding_and_encoding(body: dict[str, object]):
    content = request.decode_embed(json.dumps(body).encode())
    assert request.decode_embed(ENGINE.translate_request(ASKED, content, MODEL).body) == content


def _plain(content: Content) -> object:
    """Return content with its carried JSON parsed and its defaults filled in."""
    assert isinstance(content, Chat | Completion)
    tools = getattr(content, "tools", ())
    empty = {"type": "object", "properties": {}}
    return (
        getattr(content, "messages", None) or getattr(content, "prompts", None),
        [(tool.name, tool.description, json.loads(tool.parameters) if tool.parameters else empty) for tool in tools],
        content.format and json.loads(content.format.schema or b"null"),
        content.sampling,
        getattr(content, "thinking", None),
        json.loads(content.keep_alive or b"null"),
        sorted((name, json.loads(value)) for name, value in content.options + content.extra),
        getattr(content, "suffix", ""),
        getattr(content, "images", ()),
    )
