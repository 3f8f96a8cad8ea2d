"""Probe of servers of which only OpenAI's API is known."""

import pytest

from penstock.domain.errors import UpstreamError, UpstreamGarbage
from penstock.domain.fleet import Inventory, Model, State
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


@pytest.mark.parametrize("body", [b"", b"\n", {"object": "list", "data": []}])
def test_a_server_that_lists_nothing_is_up_and_says_what_to_do(body: object) -> None:
    found = inspect(ENGINE, {"/v1/models": body})
    assert (found.models, found.state) == ((), State.UP)
    assert "name them under `models`" in found.detail


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"<!doctype html><html></html>", "a web page"),
        (b"Ollama is running", "invalid JSON"),
        ([], "invalid JSON"),
        ({}, "missing required field `data`"),
        ({"data": {}}, "invalid JSON"),
        ({"data": [{}]}, "invalid JSON"),
        ({"data": [{"id": 3}]}, "invalid JSON"),
        ({"data": [{"id": "a", "max_model_len": "x"}]}, "invalid JSON"),
        (b'{"data":[{"id":"\xff"}]}', "invalid JSON"),
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


@pytest.mark.parametrize(
    ("status", "words"), [(401, "api_key"), (403, "api_key"), (404, "404"), (500, "500"), (503, "503")]
)
def test_a_refused_listing_says_what_to_check(status: int, words: str) -> None:
    with pytest.raises(UpstreamError, match=words):
        inspect(ENGINE, {"/v1/models": (status, b"{}")})
