"""Probe of servers of which only OpenAI's API is known."""

import msgspec
import pytest

from penstock.domain.errors import UpstreamError, UpstreamGarbage
from penstock.domain.fleet import Inventory, Model, State
from penstock.domain.request import Call, Operation
from penstock.engines import load
from penstock.engines.openai_compatible.engine import ENGINE
from tests.unit.engines.engine_calls import inspect


def test_models_are_listed() -> None:
    found = inspect(ENGINE, {"/v1/models": {"object": "list", "data": [{"id": "a"}, {"id": "b", "context_length": 9}]}})
    assert found == Inventory((Model("a"), Model("b", context_length=9)), State.UP)


def test_a_model_that_is_a_folder_has_the_folders_name_as_an_alias() -> None:
    found = inspect(ENGINE, {"/v1/models": {"data": [{"id": "/models/tiny"}, {"id": "org/name"}, {"id": "/"}]}})
    assert [model.aliases for model in found.models] == [("tiny",), (), ()]


@pytest.mark.parametrize("name", ["max_model_len", "context_length", "context_window"])
def test_the_context_length_is_read_under_all_its_names(name: str) -> None:
    assert inspect(ENGINE, {"/v1/models": {"data": [{"id": "a", name: 4096}]}}).models[0].context_length == 4096


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"\n", {"object": "list", "data": []}, {"data": None}, {"object": "list", "data": None, "models": None}),
        *([], {"models": []}, {"data": [{}, 3, None, {"id": 3}, {"id": ""}]}),
    ],
)
def test_a_server_that_lists_nothing_is_up_and_says_what_to_do(body: object) -> None:
    found = inspect(ENGINE, {"/v1/models": body})
    assert (found.models, found.state) == ((), State.UP)
    assert "name them under `models`" in found.detail


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"<!doctype html><html></html>", "a web page"),
        (b"Ollama is running", "invalid JSON"),
        ({}, "without `data`"),
        ({"data": {}}, "invalid JSON"),
        ("none", "invalid JSON"),
        (b"[" * 100_000, "invalid JSON"),
        (b" " * (9 << 20), "more than 8 MiB"),
    ],
)
def test_invalid_listings_are_garbage(answer: object, words: str) -> None:
    if isinstance(answer, bytes) and not answer.strip():
        answer += b"x"
    with pytest.raises(UpstreamGarbage) as caught:
        inspect(ENGINE, {"/v1/models": answer})
    assert words in caught.value.message
    assert len(caught.value.message) < 300


GOOD_ENTRY = {"id": "good", "context_length": 9}


@pytest.mark.parametrize(
    ("listing", "models"),
    [
        ([GOOD_ENTRY], [Model("good", context_length=9)]),
        (["a", GOOD_ENTRY], [Model("a"), Model("good", context_length=9)]),
        ({"models": [{"name": "a"}]}, [Model("a")]),
        ({"data": None, "models": [{"model": "a"}]}, [Model("a")]),
        ({"data": [{"object": "model"}, GOOD_ENTRY]}, [Model("good", context_length=9)]),
        ({"data": [None, 3, GOOD_ENTRY]}, [Model("good", context_length=9)]),
        ({"data": [{"name": "a"}]}, [Model("a")]),
        ({"data": [{"id": "a", "context_length": "4096"}]}, [Model("a", context_length=4096)]),
        ({"data": [{"id": "a", "context_length": "4k"}]}, [Model("a")]),
        ({"data": [{"id": "a", "context_length": 4096.0}]}, [Model("a", context_length=4096)]),
        ({"data": [{"id": "a", "context_length": -1, "root": 3, "parent": {}}]}, [Model("a")]),
        ({"data": [{"id": "a"}, {"id": "a"}]}, [Model("a")]),
        (b'\xef\xbb\xbf{"data":[{"id":"a"}]}', [Model("a")]),
        (b'{"data":[{"id":"a","owner":"\xff"}]}', [Model("a")]),
    ],
)
@pytest.mark.parametrize("kind", ["openai", "vllm"])
def test_an_odd_entry_costs_only_itself(kind: str, listing: object, models: list[Model]) -> None:
    found = inspect(load()[kind], {"/v1/models": listing}).models
    contexts = [max(model.context_length, 0) for model in models]
    assert [model.name for model in found] == [model.name for model in models]
    assert kind == "vllm" or [model.context_length for model in found] == contexts


@pytest.mark.parametrize(
    ("status", "words"), [(401, "api_key"), (403, "api_key"), (404, "404"), (500, "500"), (503, "503")]
)
def test_a_refused_listing_says_what_to_check(status: int, words: str) -> None:
    with pytest.raises(UpstreamError, match=words):
        inspect(ENGINE, {"/v1/models": (status, b"{}")})


@pytest.mark.parametrize("keys", [b'"model":"m","modeL":"other"', b'"Model":"other","model":"m","STREAM":true'])
def test_a_server_cannot_read_another_model_than_the_gateway(keys: bytes) -> None:
    data = b'{%b,"messages":[ {"role":"user","content":"hi"} ],"top_k":7}' % keys
    call = Call("openai.chat", Operation.CHAT, "m", stream=False, body=data)
    sent = ENGINE.forward_request(call, Model("m")).body
    assert msgspec.json.decode(sent) == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "top_k": 7,
    }
    renamed = load()["vllm"].forward_request(call, Model("served")).body
    assert [key for key in msgspec.json.decode(renamed) if key.lower() == "model"] == ["model"]


def test_an_unambiguous_body_is_sent_as_it_came() -> None:
    data = b'{ "model":"m", "messages":[ {"role":"user","content":"hi"} ], "Flavour":7}'
    call = Call("openai.chat", Operation.CHAT, "m", stream=False, body=data)
    assert ENGINE.forward_request(call, Model("m")).body is data
