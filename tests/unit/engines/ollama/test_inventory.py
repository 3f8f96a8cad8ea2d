"""Probe of an Ollama server."""

import json
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.domain.errors import UpstreamError, UpstreamGarbage
from penstock.domain.fleet import Inventory, Model
from penstock.engines.base import FetchResponse
from penstock.engines.ollama.engine import ENGINE
from tests.unit.engines.engine_calls import inspect

DIGEST = "a" * 64
LISTED = {
    "name": "llama3.1:8b",
    "model": "llama3.1:8b",
    "modified_at": "2026-08-21T18:48:22.1Z",
    "size": 4_900_000_000,
    "digest": DIGEST,
    "details": {
        "parent_model": "", "format": "gguf", "family": "llama", "families": ["llama"], "parameter_size": "8.0B",
        "quantization_level": "Q4_K_M", "context_length": 131072, "embedding_length": 4096,
    },
    "capabilities": ["completion", "tools"],
}  # fmt: skip
OLDER = LISTED | {"details": {"family": "llama"}, "capabilities": None}
DETAILS = {
    "model_info": {"general.architecture": "llama", "llama.context_length": 8192, "llama.embedding_length": 64},
    "capabilities": ["completion"],
}


class FakeOllama:
    """Server that answers the requests of a probe and records them."""

    def __init__(self, answers: Mapping[str, object], status: int = 200) -> None:
        self.answers = answers
        self.status = status
        self.fetched: list[str] = []

    def inspect(self, known: tuple[Model, ...] = ()) -> Inventory:
        looking = ENGINE.inspect_server(known)
        fetch = next(looking)
        while True:
            self.fetched.append(fetch.path)
            answer = self.answers.get(fetch.path)
            try:
                fetch = looking.send(self._answer(answer, fetch.body))
            except StopIteration as end:
                return end.value

    def _answer(self, answer: object, body: bytes) -> FetchResponse:
        if answer is None:
            return FetchResponse(404, b"404 page not found")
        return FetchResponse(self.status, answer if isinstance(answer, bytes) else json.dumps(answer).encode())


def test_a_recent_server_needs_no_show_requests():
    loaded = {"name": "llama3.1:8b", "size_vram": 5, "expires_at": "2026-08-21T19:00:00Z", "context_length": 8192}
    server = FakeOllama(
        {"/api/tags": {"models": [LISTED]}, "/api/ps": {"models": [loaded]}, "/api/version": {"version": "0.32.15"}}
    )
    inventory = server.inspect()
    assert inventory == Inventory(
        (
            Model(
                "llama3.1:8b",
                size=4_900_000_000,
                parameters="8.0B",
                quantization="Q4_K_M",
                family="llama",
                format="gguf",
                context_length=131072,
                embedding_length=4096,
                capabilities=frozenset({"completion", "tools"}),
                digest=DIGEST,
                modified_at="2026-08-21T18:48:22.1Z",
                is_loaded=True,
                size_vram=5,
                expires_at="2026-08-21T19:00:00Z",
                loaded_context=8192,
            ),
        ),
        version="0.32.15",
    )
    assert server.fetched == ["/api/tags", "/api/ps", "/api/version"]


def test_show_is_requested_once_for_each_model_of_an_older_server():
    server = FakeOllama({"/api/tags": {"models": [OLDER]}, "/api/show": DETAILS})
    model = server.inspect().models[0]
    assert (model.context_length, model.embedding_length, model.capabilities) == (8192, 64, frozenset({"completion"}))
    server.fetched.clear()
    assert server.inspect((model,)).models == (model,)
    assert "/api/show" not in server.fetched


def test_show_is_requested_again_for_a_model_with_a_new_digest():
    server = FakeOllama({"/api/tags": {"models": [OLDER]}, "/api/show": DETAILS})
    server.inspect((Model("llama3.1:8b", digest="b" * 64, capabilities=frozenset({"completion"})),))
    assert "/api/show" in server.fetched


def test_without_capabilities_the_family_decides():
    bert = OLDER | {"name": "embedder:latest", "model": "embedder:latest"}
    for architecture, meant in (("nomic-bert", "embedding"), ("llama", "completion")):
        details = {"model_info": {"general.architecture": architecture}}
        models = FakeOllama({"/api/tags": {"models": [bert]}, "/api/show": details}).inspect().models
        assert models[0].capabilities == {meant}


def test_one_probe_requests_show_for_at_most_64_models_and_the_next_for_the_rest():
    many = [OLDER | {"name": f"m{n}:1", "model": f"m{n}:1"} for n in range(100)]
    server = FakeOllama({"/api/tags": {"models": many}, "/api/show": DETAILS})
    models = server.inspect().models
    assert len(models) == 100
    assert server.fetched.count("/api/show") == 64
    assert all(model.context_length for model in server.inspect(models).models)
    assert server.fetched.count("/api/show") == 100


def test_models_without_details_are_listed_too():
    assert FakeOllama({"/api/tags": {"models": [OLDER]}}).inspect().models[0].name == "llama3.1:8b"


def test_a_duplicate_name_counts_once_and_the_other_name_is_an_alias():
    entries = [LISTED, LISTED, LISTED | {"name": "short", "model": "registry/short:latest"}]
    models = FakeOllama({"/api/tags": {"models": entries}}).inspect().models
    assert [(model.name, model.aliases) for model in models] == [
        ("llama3.1:8b", ()),
        ("short", ("registry/short:latest",)),
    ]


@pytest.mark.parametrize(
    "answer", [b"<html>", b"Ollama is running", b"[]", b"{}", b'{"models":5}', b"\xff", b'{"models":"x"}']
)
def test_a_server_without_a_model_list_is_not_ollama(answer: bytes):
    with pytest.raises(UpstreamGarbage, match="is not Ollama"):
        FakeOllama({"/api/tags": answer}).inspect()


def test_an_empty_listing_is_valid():
    assert FakeOllama({"/api/tags": {"models": None}}).inspect().models == ()
    assert FakeOllama({"/api/tags": {"models": []}}).inspect().models == ()


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_an_error_status_means_that_the_server_is_down(status: int):
    with pytest.raises(UpstreamError):
        FakeOllama({"/api/tags": b'{"error":"no"}'}, status).inspect()


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
ENTRY = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(LISTED, JUNK) | {"details": st.dictionaries(st.sampled_from(list(LISTED["details"])), JUNK)},
)


@settings(deadline=None)
@given(st.lists(ENTRY | JUNK, max_size=4), JUNK, JUNK, JUNK)
def test_wrong_types_anywhere_lose_only_their_own_field(
    entries: list[object], loaded: object, details: object, version: object
):
    answers = {
        "/api/tags": {"models": entries},
        "/api/ps": {"models": loaded},
        "/api/show": details,
        "/api/version": version,
    }
    for model in FakeOllama(answers).inspect().models:
        assert model.name
        assert min(model.size, model.context_length, model.size_vram) >= 0


@pytest.mark.parametrize(
    ("listing", "names"),
    [
        ({"models": [{"size": 3}, None, 7, {"name": "a"}]}, ["a"]),
        ({"models": ["a", {"name": "b", "details": None, "capabilities": None}]}, ["a", "b"]),
        ([{"name": "a"}], ["a"]),
        ({"models": [{"model": "a", "size": "12", "details": {"context_length": "4096"}}]}, ["a"]),
        (b'{"models":[{"name":"a","digest":"\xff"}]}', ["a"]),
    ],
)
def test_an_odd_entry_costs_only_itself(listing: object, names: list[str]) -> None:
    found = inspect(ENGINE, {"/api/tags": listing}).models
    assert [model.name for model in found] == names
