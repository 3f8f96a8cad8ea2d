"""Response bodies of Ollama's API for models, for any fleet."""

import json
import re

import ollama

from penstock.api.ollama import views
from penstock.domain.fleet import Fleet, Model, Server, ServerStatus, State

LLAMA = Model(
    "llama3.1:8b",
    size=4_900_000_000,
    parameters="8.0B",
    quantization="Q4_K_M",
    family="llama",
    format="gguf",
    context_length=131072,
    embedding_length=4096,
    capabilities=frozenset({"tools", "completion"}),
    digest="a" * 64,
    modified_at="2026-08-21T18:48:22.123456789+03:00",
)
GEMMA = Model("gemma3:1b", 800_000_000, modified_at="2026-08-21T16:48:22Z", digest="b" * 64)
SERVED = Model("meta-llama/Meta-Llama-3.1-8B-Instruct", context_length=16384, is_loaded=True)


def fleet(*servers: tuple[Model, ...], state: State = State.UP) -> Fleet:
    return Fleet(
        tuple(
            ServerStatus(Server(f"s{n}", "ollama", ("http://s",)), state, models=models)
            for n, models in enumerate(servers)
        )
    )


def list_models(body: bytes) -> list[dict[str, object]]:
    return json.loads(body)["models"]


def test_tags_have_ollamas_keys_in_its_order():
    entry = list_models(views.render_tags(fleet((LLAMA,))))[0]
    assert json.dumps(entry) == json.dumps(
        {
            "name": "llama3.1:8b",
            "model": "llama3.1:8b",
            "modified_at": "2026-08-21T18:48:22.123456789+03:00",
            "size": 4_900_000_000,
            "digest": "a" * 64,
            "details": {
                "parent_model": "",
                "format": "gguf",
                "family": "llama",
                "families": ["llama"],
                "parameter_size": "8.0B",
                "quantization_level": "Q4_K_M",
                "context_length": 131072,
                "embedding_length": 4096,
            },
            "capabilities": ["completion", "tools"],
        }
    )


def test_the_newest_comes_first_whatever_its_zone():
    assert [model["name"] for model in list_models(views.render_tags(fleet((LLAMA, GEMMA, SERVED))))] == [
        "gemma3:1b",
        "llama3.1:8b",
        "meta-llama/Meta-Llama-3.1-8B-Instruct:latest",
    ]


def test_a_model_on_several_servers_is_one_entry():
    elsewhere = Model("LLAMA3.1:8B", digest="c" * 64, is_loaded=True, size_vram=5, expires_at="2026-08-21T19:00:00Z")
    body = views.render_tags(fleet((LLAMA,), (elsewhere, GEMMA)))
    assert sorted(model["name"] for model in list_models(body)) == ["gemma3:1b", "llama3.1:8b"]
    loaded = list_models(views.render_ps(fleet((LLAMA,), (elsewhere,))))[0]
    assert (loaded["size_vram"], loaded["expires_at"]) == (5, "2026-08-21T19:00:00.000Z")


def test_models_of_other_engines_get_what_ollamas_client_needs():
    entry = list_models(views.render_tags(fleet((SERVED,))))[0]
    assert re.fullmatch("[0-9a-f]{64}", str(entry["digest"]))
    assert entry["digest"] == list_models(views.render_ps(fleet((SERVED,))))[0]["digest"]
    assert entry["details"]["families"] is None
    assert entry["modified_at"] == "0001-01-01T00:00:00.000Z"


def test_unreachable_servers_and_agents_list_nothing():
    agent = Model("victoria", capabilities=frozenset({"agent"}))
    assert views.render_tags(fleet((LLAMA,), state=State.DOWN)) == b'{"models":[]}'
    assert views.render_tags(fleet((agent,))) == views.render_ps(fleet((LLAMA,))) == b'{"models":[]}'


def test_ps_has_its_eight_keys_and_the_longest_to_stay_first():
    soon = Model("a:1", 10, digest="d" * 64, is_loaded=True, size_vram=12, expires_at="2026-08-21T19:00:00Z")
    later = Model("b:1", 10, digest="e" * 64, is_loaded=True, expires_at="2026-08-21T19:00:00-05:00", context_length=8)
    models = list_models(views.render_ps(fleet((soon, later, SERVED))))
    assert [model["name"] for model in models[1:]] == ["b:1", "a:1"]
    assert list(models[1]) == [
        "name", "model", "size", "digest", "details", "expires_at", "size_vram", "context_length"
    ]  # fmt: skip
    assert (models[2]["size"], models[2]["size_vram"]) == (12, 12)
    assert list(models[1]["details"]) == [
        "parent_model", "format", "family", "families", "parameter_size", "quantization_level"
    ]  # fmt: skip


def test_ps_shows_the_context_that_a_model_is_loaded_with():
    loaded = Model("a:1", digest="d" * 64, is_loaded=True, context_length=131072, loaded_context=8192)
    bystander = Model("a:1", digest="d" * 64, context_length=131072)
    for statuses in (((loaded,), (bystander,)), ((bystander,), (loaded,))):
        assert list_models(views.render_ps(fleet(*statuses)))[0]["context_length"] == 8192
        assert list_models(views.render_tags(fleet(*statuses)))[0]["details"]["context_length"] == 131072


def test_show_of_a_model_that_no_ollama_has():
    description = json.loads(views.render_show(SERVED, False))
    assert list(description) == ["modelfile", "details", "model_info", "capabilities", "modified_at"]
    assert description["model_info"] == {"general.architecture": "unknown", "unknown.context_length": 16384}
    assert description["capabilities"] == ["completion", "tools"]


def test_show_gives_lists_only_when_verbose():
    model = Model("m", parameters="1.5B", family="llama", aliases=("n",))
    brief, verbose = (json.loads(views.render_show(model, flag))["model_info"] for flag in (False, True))
    assert brief["general.aliases"] is None
    assert verbose == {
        "general.aliases": ["n"], "general.architecture": "llama", "general.parameter_count": 1_500_000_000
    }  # fmt: skip


def test_the_version_response_has_no_other_field():
    assert views.render_version("0.32.15") == b'{"version":"0.32.15"}'


def test_the_official_client_reads_them():
    everything = fleet((LLAMA, GEMMA), (SERVED, Model("odd", modified_at="yesterday", parameters="..B")))
    assert len(ollama.ListResponse.model_validate_json(views.render_tags(everything)).models) == 4
    assert len(ollama.ProcessResponse.model_validate_json(views.render_ps(everything)).models) == 1
    description = ollama.ShowResponse.model_validate_json(views.render_show(SERVED, True))
    assert description.capabilities == ["completion", "tools"]
