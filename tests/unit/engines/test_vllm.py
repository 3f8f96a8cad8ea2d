"""vLLM's own behavior: its probe, thinking, token counts."""

from typing import Any

import msgspec
import pytest

from penstock.domain.content import Chat, Completion, Embedding, File, Message, Sampling, Text, Thinking, Tool
from penstock.domain.errors import Unsupported, UpstreamError, UpstreamGarbage
from penstock.domain.fleet import Inventory, Model, State
from penstock.domain.request import Operation
from penstock.engines.vllm import ENGINE
from tests.unit.engines.engine_calls import inspect, make_call, translate

HI = Message("user", (Text("hi"),))
LISTED = {
    "object": "list",
    "data": [
        {"id": "tiny", "owned_by": "vllm", "root": "meta-llama/Tiny", "parent": None, "max_model_len": 2048},
        {"id": "sql", "owned_by": "vllm", "root": "/loras/sql", "parent": "tiny"},
    ],
}


def test_a_probe_finds_models_with_context_aliases_and_version() -> None:
    found = inspect(ENGINE, {"/health": b"", "/v1/models": LISTED, "/version": {"version": "0.32.0"}})
    assert found == Inventory(
        (
            Model("tiny", context_length=2048, is_loaded=True, aliases=("meta-llama/Tiny",)),
            Model("sql", is_loaded=True),
        ),
        State.UP,
        version="0.32.0",
    )


@pytest.mark.parametrize(
    ("entry", "aliases"),
    [
        ({"id": "tiny", "root": "tiny"}, ()),
        ({"id": "tiny", "root": None}, ()),
        ({"id": "tiny", "root": "org/Tiny"}, ("org/Tiny",)),
        ({"id": "tiny", "root": "/models/Tiny-1B"}, ("/models/Tiny-1B", "Tiny-1B")),
        ({"id": "tiny", "root": "/models/tiny/"}, ("/models/tiny/",)),
        ({"id": "/models/tiny", "root": "/models/tiny"}, ("tiny",)),
        ({"id": "sql", "root": "/loras/sql", "parent": "tiny"}, ()),
    ],
)
def test_a_model_has_its_folder_and_repository_as_aliases(entry: dict[str, Any], aliases: tuple[str, ...]) -> None:
    assert inspect(ENGINE, {"/v1/models": {"data": [entry]}}).models[0].aliases == aliases


@pytest.mark.parametrize("version", [b"", b"<html>", [], {"version": 3}, (500, b"")])
def test_an_invalid_version_is_ignored(version: object) -> None:
    assert inspect(ENGINE, {"/v1/models": LISTED, "/version": version}).version == ""


def test_a_server_without_health_and_version_is_still_probed() -> None:
    assert len(inspect(ENGINE, {"/v1/models": LISTED}).models) == 2


def test_a_stopped_engine_is_down() -> None:
    with pytest.raises(UpstreamError, match="Restart vLLM"):
        inspect(ENGINE, {"/health": (503, b""), "/v1/models": LISTED})


@pytest.mark.parametrize("body", [b"", b"{}", b"<html></html>", b'{"data":3}'])
def test_no_listing_is_garbage(body: bytes) -> None:
    with pytest.raises(UpstreamGarbage):
        inspect(ENGINE, {"/v1/models": body})


@pytest.mark.parametrize(
    ("thinking", "expected"),
    [
        (Thinking(), {"chat_template_kwargs": {"enable_thinking": True}}),
        (Thinking(enabled=False), {"chat_template_kwargs": {"enable_thinking": False}}),
        (Thinking(effort="low"), {"chat_template_kwargs": {"enable_thinking": True}, "reasoning_effort": "low"}),
        (Thinking(effort="max"), {"chat_template_kwargs": {"enable_thinking": True}, "reasoning_effort": "xhigh"}),
        (Thinking(budget=64), {"chat_template_kwargs": {"enable_thinking": True}}),
    ],
)
def test_thinking_is_set_in_the_template(thinking: Thinking, expected: dict[str, Any]) -> None:
    plain = translate(ENGINE, Chat((HI,)))[1]
    assert translate(ENGINE, Chat((HI,), thinking=thinking))[1] == plain | expected


def test_earlier_thinking_is_sent_back() -> None:
    sent = translate(ENGINE, Chat((HI, Message("assistant", (Text("a"),), thinking="hm"))))[1]
    assert sent["messages"][1]["reasoning_content"] == "hm"


@pytest.mark.parametrize("name", ["guided_json", "structured_outputs", "min_tokens", "ignore_eos", "logit_bias"])
def test_its_own_fields_are_accepted_from_any_dialect(name: str) -> None:
    assert translate(ENGINE, Chat((HI,), extra=((name, b'{"a":1}'),)))[1][name] == {"a": 1}


@pytest.mark.parametrize("name", ["mirostat", "typical_p", "repeat_last_n"])
def test_options_of_others_are_left_out_and_named(name: str) -> None:
    outgoing, body = translate(ENGINE, Chat((HI,), options=((name, b"2"),)))
    assert outgoing.ignored == (name,)
    assert name not in body


@pytest.mark.parametrize(("prompt", "left"), [("слово", 2037), ((1, 2, 3), 2044), ("long " * 2000, 16), ("", 2047)])
def test_a_raw_prompt_without_a_limit_may_fill_the_rest_of_the_context(prompt: Any, left: int) -> None:
    outgoing = ENGINE.translate_request(
        make_call("ollama.generate"), Completion((prompt,)), Model("tiny", context_length=2048)
    )
    assert msgspec.json.decode(outgoing.body)["max_tokens"] == left
    limited = Completion((prompt,), sampling=Sampling(max_tokens=7))
    outgoing = ENGINE.translate_request(make_call("ollama.generate"), limited, Model("tiny", context_length=2048))
    assert msgspec.json.decode(outgoing.body)["max_tokens"] == 7


def test_documents_are_refused() -> None:
    with pytest.raises(Unsupported, match="vLLM does not accept documents"):
        translate(ENGINE, Chat((Message("user", (File(data="AAAA"),)),)))


def test_tokens_are_counted_by_tokenizing() -> None:
    tool = Tool("f", parameters=b"{}")
    outgoing, body = translate(
        ENGINE, Chat((HI,), tools=(tool,), user="u"), make_call("anthropic.count", operation=Operation.COUNT)
    )
    assert (outgoing.path, outgoing.stream) == ("/tokenize", False)
    assert set(body) == {"model", "messages", "tools"}
    reader = ENGINE.create_reader(make_call(operation=Operation.COUNT), Chat((HI,)), outgoing)
    list(reader.feed(b'{"count":18,"max_model_len":256,"tokens":[1]}'))
    (chunk,) = reader.close()
    assert chunk.usage is not None
    assert chunk.usage.prompt_tokens == 18
    assert Operation.COUNT in ENGINE.operations


@pytest.mark.parametrize(("truncate", "expected"), [(True, {"truncate_prompt_tokens": -1}), (False, {}), (None, {})])
def test_long_inputs_are_truncated_if_requested(truncate: bool | None, expected: dict[str, Any]) -> None:
    plain = {"model": "served", "input": "a", "encoding_format": "float"}
    assert translate(ENGINE, Embedding(("a",), truncate=truncate))[1] == plain | expected
