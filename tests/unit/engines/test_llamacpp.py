"""llama.cpp's own behavior: its probe, its field names, fields that it ignores silently."""

from typing import Any

import pytest

from penstock.domain.content import Chat, Completion, Embedding, File, Format, Message, Sampling, Text, Thinking
from penstock.domain.errors import Unsupported, UpstreamGarbage
from penstock.domain.fleet import Inventory, Model, State
from penstock.domain.request import Operation
from penstock.engines.llamacpp import ENGINE
from tests.unit.engines.engine_calls import inspect, make_call, translate

HI = Message("user", (Text("hi"),))
META = {
    "n_ctx": 1024,
    "n_ctx_train": 4096,
    "n_embd": 128,
    "n_params": 8_030_000_000,
    "size": 99,
    "ftype": "Q4_K - Medium",
}
LISTED: dict[str, Any] = {
    "models": [{"name": "tiny", "capabilities": ["completion", "multimodal"], "details": {"format": "gguf"}}],
    "object": "list",
    "data": [{"id": "tiny", "aliases": ["tiny", "other"], "owned_by": "llamacpp", "meta": META}],
}
PROPS = {
    "total_slots": 2,
    "modalities": {"vision": True, "audio": True, "video": False},
    "build_info": "b11669",
    "chat_template": "{{ messages }}",
}


def test_a_probe_finds_all_that_the_server_reports() -> None:
    found = inspect(ENGINE, {"/health": {"status": "ok"}, "/v1/models": LISTED, "/props": PROPS})
    assert found == Inventory(
        (
            Model(
                "tiny",
                size=99,
                parameters="8.0B",
                quantization="Q4_K_M",
                format="gguf",
                context_length=1024,
                embedding_length=128,
                capabilities=frozenset({"completion", "vision", "audio"}),
                is_loaded=True,
                aliases=("other",),
                template="{{ messages }}",
            ),
        ),
        State.UP,
        version="b11669",
        slots=2,
    )


@pytest.mark.parametrize(
    ("count", "words"), [(468_864, "468.9K"), (7_000_000, "7.0M"), (70_600_000_000, "70.6B"), (12, "12"), (None, "")]
)
def test_the_number_of_parameters_is_abbreviated(count: int | None, words: str) -> None:
    listed = {"data": [{"id": "a", "meta": {"n_params": count}}]}
    assert inspect(ENGINE, {"/v1/models": listed}).models[0].parameters == words


@pytest.mark.parametrize(
    ("ftype", "short"),
    [
        ("all F32", "F32"),
        ("Q4_K - Medium", "Q4_K_M"),
        ("Q3_K - Small", "Q3_K_S"),
        ("Q8_0", "Q8_0"),
        ("", ""),
        (None, ""),
    ],
)
def test_quantization_has_the_usual_short_form(ftype: str | None, short: str) -> None:
    assert (
        inspect(ENGINE, {"/v1/models": {"data": [{"id": "a", "meta": {"ftype": ftype}}]}}).models[0].quantization
        == short
    )


@pytest.mark.parametrize(
    ("template", "abilities"),
    [
        ("{{ messages }}", set()),
        ("{% if tools %}", {"tools"}),
        ("{% if enable_thinking %}", {"thinking"}),
        ("<think>{{ tools }}", {"thinking", "tools"}),
    ],
)
def test_the_chat_template_determines_capabilities(template: str, abilities: set[str]) -> None:
    found = inspect(ENGINE, {"/v1/models": {"data": [{"id": "a"}]}, "/props": {"chat_template": template}})
    assert found.models[0].capabilities == abilities


@pytest.mark.parametrize("props", [(404, b""), (500, b"x"), b"<html>", {"total_slots": "two"}, []])
def test_invalid_properties_are_ignored(props: object) -> None:
    found = inspect(ENGINE, {"/v1/models": LISTED, "/props": props})
    assert (found.slots, found.version, found.state) == (0, "", State.UP)
    assert found.models[0].capabilities == {"completion", "vision"}


@pytest.mark.parametrize("entry", [{"id": "a"}, {"id": "a", "meta": None}, {"id": "a", "meta": {"n_ctx": None}}])
def test_a_bare_entry_is_a_model(entry: dict[str, Any]) -> None:
    assert inspect(ENGINE, {"/v1/models": {"data": [entry]}}).models[0].name == "a"


def test_a_server_with_several_models_lists_which_are_loaded() -> None:
    listed = {
        "data": [
            {"id": "a", "status": {"value": "loaded"}},
            {"id": "b", "status": {"value": "unloaded"}},
            {"id": "c", "status": {"value": "loading"}},
        ]
    }
    found = inspect(ENGINE, {"/v1/models": listed, "/props": PROPS})
    assert [(model.name, model.is_loaded) for model in found.models] == [("a", True), ("b", False), ("c", False)]
    assert all(not model.capabilities for model in found.models)


@pytest.mark.parametrize(
    "entry",
    [
        {"aliases": None},
        {"aliases": "b"},
        {"aliases": [None]},
        {"meta": []},
        {"meta": {"n_ctx": "x"}},
        {"status": "loaded"},
        {"status": None, "meta": None},
    ],
)
def test_odd_fields_of_an_entry_are_ignored(entry: dict[str, Any]) -> None:
    found = inspect(ENGINE, {"/v1/models": {"data": [{"id": "a"} | entry], "models": None}})
    assert [(model.name, model.is_loaded) for model in found.models] == [("a", True)]


@pytest.mark.parametrize(
    "props", [{"total_slots": "4"}, {"total_slots": None}, {"modalities": None}, {"modalities": {"vision": "yes"}}]
)
def test_odd_properties_cost_only_themselves(props: dict[str, Any]) -> None:
    found = inspect(ENGINE, {"/v1/models": {"data": [{"id": "a"}]}, "/props": {"chat_template": "tools"} | props})
    assert found.models[0].capabilities == {"tools"}
    assert found.slots == (4 if props.get("total_slots") else 0)


def test_a_loading_server_keeps_its_known_models() -> None:
    loading = (503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}})
    known = (Model("tiny"),)
    assert inspect(ENGINE, {"/health": loading}, known) == Inventory(known, State.LOADING, detail="Loading model")
    assert inspect(ENGINE, {"/health": (503, b"")}).detail == "it is loading its model"


@pytest.mark.parametrize("body", [b"", b"{}", b"<html></html>", b'{"data":3}'])
def test_no_listing_is_garbage(body: bytes) -> None:
    with pytest.raises(UpstreamGarbage):
        inspect(ENGINE, {"/v1/models": body})


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"sampling": Sampling(repeat_penalty=1.1)}, {"repeat_penalty": 1.1}),
        ({"thinking": Thinking()}, {"chat_template_kwargs": {"enable_thinking": True}}),
        ({"thinking": Thinking(enabled=False)}, {"chat_template_kwargs": {"enable_thinking": False}}),
        (
            {"thinking": Thinking(effort="max", budget=64)},
            {
                "chat_template_kwargs": {"enable_thinking": True, "reasoning_effort": "xhigh"},
                "thinking_budget_tokens": 64,
            },
        ),
        ({"options": (("mirostat", b"2"), ("num_ctx", b"8192"))}, {"mirostat": 2}),
        ({"options": (("repeat_last_n", b"64"), ("typical_p", b"0.5"))}, {"repeat_last_n": 64, "typical_p": 0.5}),
        ({"extra": (("grammar", b'"root ::= x"'),)}, {"grammar": "root ::= x"}),
        ({"extra": (("verbosity", b'"low"'),)}, {}),
    ],
)
def test_requests_use_llamacpps_names(settings: dict[str, Any], expected: dict[str, Any]) -> None:
    assert translate(ENGINE, Chat((HI,), **settings))[1] == translate(ENGINE, Chat((HI,)))[1] | expected


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (Completion(("a",), suffix="z"), "suffix"),
        (Completion(("a",), echo=True), "echo"),
        (Embedding(("a",), dimensions=8), "dimensions"),
        (Chat((Message("user", (File(data="A"),)),)), "messages"),
        (Chat((HI,), extra=(("guided_json", b"{}1"),)), "guided_json"),
    ],
)
def test_fields_that_it_ignores_silently_are_refused(content: Any, name: str) -> None:
    with pytest.raises(Unsupported) as caught:
        translate(ENGINE, content)
    assert caught.value.param == name
    assert "llama.cpp" in caught.value.message


@pytest.mark.parametrize(("schema", "expected"), [(b"", {}), (b'{"type":"array"}', {"type": "array"})])
def test_the_schema_of_a_completion_has_its_own_field(schema: bytes, expected: Any) -> None:
    body = translate(ENGINE, Completion(("a",), format=Format(schema)))[1]
    assert body["json_schema"] == expected
    assert "response_format" not in body


@pytest.mark.parametrize("content", [Chat((HI,)), Completion(("a",))])
def test_requests_always_stream_so_that_it_notices_a_disconnect(content: Any) -> None:
    outgoing, body = translate(ENGINE, content, make_call(stream=False))
    assert outgoing.stream
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})


def test_tokens_are_counted_by_the_server() -> None:
    outgoing, body = translate(ENGINE, Chat((HI,)), make_call("anthropic.count", operation=Operation.COUNT))
    assert (outgoing.path, outgoing.stream) == ("/v1/chat/completions/input_tokens", False)
    assert body == {"model": "served", "messages": [{"role": "user", "content": "hi"}]}
    assert Operation.COUNT in ENGINE.operations


def test_a_server_without_embeddings_keeps_its_message() -> None:
    body = b'{"error":{"code":501,"message":"This server does not support embeddings.","type":"not_supported_error"}}'
    error = ENGINE.parse_error_response(501, body, None)
    assert isinstance(error, Unsupported)
    assert "llama.cpp" in error.message
