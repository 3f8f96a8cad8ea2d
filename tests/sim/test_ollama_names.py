"""Model names: what is found, under which spelling, and what is said of one that is not."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.sim import Simulator
from penstock.sim.kinds.ollama.model_names import parse_name
from tests.sim.client import ask
from tests.sim.conftest import EMBEDDER, PLAIN, SKILLED

HI = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("POST", "/api/chat", {"model": "nope", "messages": HI}, 404, "model 'nope' not found"),
        ("POST", "/api/generate", {"model": "nope", "prompt": "x"}, 404, "model 'nope' not found"),
        ("POST", "/api/embed", {"model": "nope", "input": "x"}, 404, 'model "nope" not found, try pulling it first'),
        (
            "POST",
            "/api/embeddings",
            {"model": "nope", "prompt": "x"},
            404,
            'model "nope" not found, try pulling it first',
        ),
        ("POST", "/api/show", {"model": "nope"}, 404, "model 'nope:latest' not found"),
        ("DELETE", "/api/delete", {"model": "nope"}, 404, "model 'nope' not found"),
        ("POST", "/api/copy", {"source": "nope", "destination": "other"}, 404, 'model "nope" not found'),
        ("POST", "/api/generate", {"prompt": "x"}, 404, "model '' not found"),
        ("POST", "/api/embed", {"input": "x"}, 404, "model '' not found"),
        ("POST", "/api/chat", {"messages": HI}, 400, "model is required"),
        ("POST", "/api/embeddings", {"prompt": "x"}, 400, "model is required"),
        ("POST", "/api/show", {}, 400, "model is required"),
        ("DELETE", "/api/delete", {}, 400, "model is required"),
        ("POST", "/api/pull", {}, 400, "invalid model name"),
        ("POST", "/api/create", {"from": PLAIN}, 400, "invalid model name"),
        ("POST", "/api/create", {"model": "n"}, 400, "neither 'from' or 'files' was specified"),
        ("POST", "/api/copy", {"destination": "n"}, 400, 'source "" is invalid'),
        ("POST", "/api/copy", {"source": PLAIN, "destination": "bad name!"}, 400, 'destination "bad name!" is invalid'),
        ("POST", "/api/chat", {"model": "bad name!", "messages": HI}, 400, "invalid model name"),
        ("DELETE", "/api/delete", {"model": "bad name!"}, 400, 'name "bad name!" is invalid'),
        ("POST", "/api/chat", {"model": "http://m"}, 400, "invalid model name"),
        (
            "POST",
            "/api/pull",
            {"model": "x:cloud:local"},
            400,
            'use either :local or :cloud, not both: "x:cloud:local"',
        ),
        (
            "POST",
            "/api/embeddings",
            {"model": "NOMIC-EMBED-TEXT"},
            404,
            'model "NOMIC-EMBED-TEXT" not found, try pulling it first',
        ),
    ],
)
async def test_a_model_that_is_not_there_is_told_in_the_route_s_own_words(
    ollama: Simulator, method: str, path: str, body: dict[str, Any], status: int, words: str
) -> None:
    answer = await ask(ollama.url, method, path, body)
    assert (answer.status, answer.error) == (status, words)


@pytest.mark.parametrize(
    "spelling",
    [
        "LLAMA3.2",
        "llama3.2",
        "llama3.2:latest",
        "library/llama3.2",
        " llama3.2 ",
        "llama3.2:local",
        "https://registry.ollama.ai/library/llama3.2",
    ],
)
async def test_a_model_is_found_in_any_spelling_and_echoed_in_that(ollama: Simulator, spelling: str) -> None:
    body = {"model": spelling, "messages": HI, "stream": False}
    answer = await ask(ollama.url, "POST", "/api/chat", body)
    assert (answer.status, answer.json["model"]) == (200, spelling)


async def test_lists_show_the_tag_that_was_left_out(ollama: Simulator) -> None:
    await ask(ollama.url, "POST", "/api/generate", {"model": SKILLED})
    tags, loaded = await ask(ollama.url, "GET", "/api/tags"), await ask(ollama.url, "GET", "/api/ps")
    assert f"{SKILLED}:latest" in [model["name"] for model in tags.json["models"]]
    assert [model["model"] for model in loaded.json["models"]] == [f"{SKILLED}:latest"]


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/api/chat", {"model": EMBEDDER, "messages": HI}, f'"{EMBEDDER}" does not support chat'),
        ("/api/generate", {"model": EMBEDDER, "prompt": "x"}, f'"{EMBEDDER}" does not support generate'),
        (
            "/api/chat",
            {"model": PLAIN, "messages": HI, "tools": [TOOL]},
            "registry.ollama.ai/library/gemma3:1b does not support tools",
        ),
        (
            "/api/generate",
            {"model": PLAIN, "prompt": "x", "suffix": "y"},
            "registry.ollama.ai/library/gemma3:1b does not support insert",
        ),
    ],
)
async def test_what_a_model_cannot_do_is_400(ollama: Simulator, path: str, body: dict[str, Any], words: str) -> None:
    answer = await ask(ollama.url, "POST", path, body)
    assert (answer.status, answer.error) == (400, words)


def test_a_name_has_defaults_for_what_it_leaves_out() -> None:
    short, hosted = parse_name("m"), parse_name("hf.co/org/repo:Q4_K_M")
    assert (short.full, short.display) == ("registry.ollama.ai/library/m:latest", "m:latest")
    assert (hosted.host, hosted.display) == ("hf.co", "hf.co/org/repo:Q4_K_M")


@given(st.text(max_size=40))
def test_the_display_of_a_valid_name_means_the_same(text: str) -> None:
    name = parse_name(text)
    if name.is_valid:
        assert parse_name(name.display).full.lower() == name.full.lower()


async def test_a_cloud_model_cannot_be_reached(ollama: Simulator) -> None:
    answer = await ask(ollama.url, "POST", "/api/chat", {"model": "x:cloud"})
    assert answer.status == 502
    assert answer.error.startswith('Post "https://ollama.com:443/api/chat?ts=')
