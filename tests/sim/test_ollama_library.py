"""Ollama's lists, its embeddings, and what installs, copies and removes models."""

import hashlib
import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import ollama as client
import pytest

from penstock.sim import SimOptions, Simulator
from tests.sim.client import ask, until
from tests.sim.conftest import EMBEDDER, PLAIN, SKILLED, THINKER


async def tags(server: Simulator) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = (await ask(server.url, "GET", "/api/tags")).json["models"]
    return listed


async def loaded(server: Simulator) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = (await ask(server.url, "GET", "/api/ps")).json["models"]
    return listed


async def test_tags_describe_every_model_newest_first(ollama: Simulator) -> None:
    models = await tags(ollama)
    assert [model["name"] for model in models] == [PLAIN, f"{SKILLED}:latest", THINKER, f"{EMBEDDER}:latest"]
    times = [datetime.fromisoformat(model["modified_at"]) for model in models]
    assert times == sorted(times, reverse=True)
    for model in models:
        assert list(model) == ["name", "model", "modified_at", "size", "digest", "details", "capabilities"]
        assert re.fullmatch(r"[0-9a-f]{64}", model["digest"])
        wanted = {"parent_model", "format", "family", "families", "parameter_size", "quantization_level"}
        assert wanted <= set(model["details"])


async def test_no_models_are_an_empty_list(ollama: Simulator) -> None:
    for model in await tags(ollama):
        assert (await ask(ollama.url, "DELETE", "/api/delete", {"name": model["name"]})).status == 200
    assert await tags(ollama) == []
    assert (await ask(ollama.url, "GET", "/v1/models")).json == {"object": "list", "data": None}


async def test_ps_tells_what_is_loaded_and_until_when(ollama: Simulator) -> None:
    assert await loaded(ollama) == []
    await ask(ollama.url, "POST", "/api/generate", {"model": PLAIN})
    (model,) = await loaded(ollama)
    keys = ["name", "model", "size", "digest", "details", "expires_at", "size_vram", "context_length"]
    assert list(model) == keys
    assert isinstance(model["context_length"], int)
    assert until_expiry(model) == pytest.approx(300, abs=5)
    await ask(ollama.url, "POST", "/api/generate", {"model": PLAIN, "keep_alive": -1})
    assert until_expiry((await loaded(ollama))[0]) > 200 * 365 * 86400
    await ask(ollama.url, "POST", "/api/generate", {"model": PLAIN, "keep_alive": 0})
    assert await loaded(ollama) == []


def until_expiry(model: dict[str, Any]) -> float:
    return (datetime.fromisoformat(model["expires_at"]) - datetime.now(UTC)) / timedelta(seconds=1)


async def test_a_model_is_forgotten_when_its_time_is_up() -> None:
    async with Simulator(SimOptions(models=(PLAIN,), load_seconds=0, clock_scale=1e6)) as simulator:
        await ask(simulator.url, "POST", "/api/generate", {"model": PLAIN, "keep_alive": "1s"})
        await until(lambda: not simulator.speed_model.residents)
        assert await loaded(simulator) == []


async def test_show_describes_a_model(ollama: Simulator) -> None:
    for body in ({"model": PLAIN}, {"name": PLAIN}, {"model": "", "name": PLAIN, "verbose": False, "options": None}):
        shown = (await ask(ollama.url, "POST", "/api/show", body)).json
        assert isinstance(shown["model_info"]["general.parameter_count"], int)
        assert shown["model_info"]["gemma3.context_length"] == 32768
        assert shown["model_info"]["tokenizer.ggml.tokens"] is None
        assert list(shown["model_info"]) == sorted(shown["model_info"])
        assert shown["capabilities"] == ["completion"]
        assert shown["details"]["parameter_size"] == "999.89M"
        assert datetime.fromisoformat(shown["modified_at"])
    verbose = (await ask(ollama.url, "POST", "/api/show", {"model": PLAIN, "verbose": True})).json
    assert verbose["model_info"]["tokenizer.ggml.tokens"]


async def test_the_official_client_understands_every_answer(ollama: Simulator) -> None:
    api = client.AsyncClient(ollama.url)
    assert (await api.list()).models[0].model == PLAIN
    assert (await api.show(PLAIN)).capabilities == ["completion"]
    assert (await api.chat(PLAIN, [{"role": "user", "content": "hi"}])).message.content
    assert [
        part.message.content async for part in await api.chat(PLAIN, [{"role": "user", "content": "a"}], stream=True)
    ]
    assert (await api.generate(PLAIN, "hi")).response
    assert len((await api.embed(EMBEDDER, ["a", "b"])).embeddings) == 2
    assert len((await api.embeddings(EMBEDDER, "a")).embedding) == 768
    assert (await api.ps()).models[0].model == f"{EMBEDDER}:latest"
    assert (await api.copy(PLAIN, "mine")).status == "success"
    assert (await api.pull(PLAIN)).status == "success"
    assert (await api.create("made", from_="mine", system="Be kind.")).status == "success"
    assert (await api.delete("mine")).status == "success"
    with pytest.raises(client.ResponseError, match="not found") as caught:
        await api.show("mine")
    assert caught.value.status_code == 404
    await api._client.aclose()


async def test_embed_gives_unit_vectors_in_order(ollama: Simulator) -> None:
    one = (await embed(ollama, "a")).json["embeddings"]
    two = (await embed(ollama, ["b", "a"])).json["embeddings"]
    assert one[0] == two[1] != two[0]
    assert math.hypot(*one[0]) == pytest.approx(1)
    assert (await embed(ollama, [])).json == {"model": EMBEDDER, "embeddings": []}
    short = (await embed(ollama, "a", dimensions=8)).json["embeddings"][0]
    assert len(short) == 8
    assert math.hypot(*short) == pytest.approx(1)


async def embed(server: Simulator, texts: Any, **more: Any) -> Any:
    return await ask(server.url, "POST", "/api/embed", {"model": EMBEDDER, "input": texts, **more})


async def test_embed_refuses_what_is_no_text(ollama: Simulator) -> None:
    answer = await embed(ollama, 5)
    assert (answer.status, answer.error) == (400, "invalid input type")
    long = await embed(ollama, "word " * 3000, truncate=False)
    assert (long.status, long.error) == (400, "the input length exceeds the context length")
    other = await ask(ollama.url, "POST", "/api/embed", {"model": PLAIN, "input": "a"})
    assert other.status == 501


async def test_the_older_embeddings_answer_has_one_key(ollama: Simulator) -> None:
    answer = await ask(ollama.url, "POST", "/api/embeddings", {"model": EMBEDDER, "prompt": "a"})
    assert list(answer.json) == ["embedding"]


async def test_pull_of_an_installed_model_finds_its_layers_cached(ollama: Simulator) -> None:
    lines = (await ask(ollama.url, "POST", "/api/pull", {"model": PLAIN})).lines
    assert lines[0] == {"status": "pulling manifest"}
    layers = [line for line in lines if "digest" in line]
    assert layers
    assert all(line["completed"] == line["total"] for line in layers)
    assert all(line["status"] == f"pulling {line['digest'][7:19]}" for line in layers)
    ending = [line["status"] for line in lines[-3:]]
    assert ending == ["verifying sha256 digest", "writing manifest", "success"]


async def test_pull_of_a_new_model_tells_its_progress_and_installs_it(ollama: Simulator) -> None:
    lines = (await ask(ollama.url, "POST", "/api/pull", {"name": "qwen2.5:1.5b"})).lines
    done = [line.get("completed", 0) for line in lines if line.get("total", 0) > 10**6]
    assert done == sorted(done)
    assert len(set(done)) > 5
    assert "qwen2.5:1.5b" in [model["name"] for model in await tags(ollama)]


async def test_pull_of_what_nobody_published_fails_inside_the_stream(ollama: Simulator) -> None:
    words = "pull model manifest: file does not exist"
    streamed = await ask(ollama.url, "POST", "/api/pull", {"model": "zzz"})
    assert streamed.status == 200
    assert streamed.lines == [{"status": "pulling manifest"}, {"error": words}]
    whole = await ask(ollama.url, "POST", "/api/pull", {"model": "zzz", "stream": False})
    assert (whole.status, whole.error) == (500, words)
    assert whole.header("content-type") == "application/json"


async def test_push_fails_without_an_account_or_tells_what_is_missing(ollama: Simulator) -> None:
    lines = (await ask(ollama.url, "POST", "/api/push", {"model": PLAIN})).lines
    assert lines == [{"status": "retrieving manifest"}, {"error": "unauthorized: access denied"}]
    lines = (await ask(ollama.url, "POST", "/api/push", {"model": "zzz"})).lines
    assert [line.get("status") for line in lines[:2]] == ["retrieving manifest", "couldn't retrieve manifest"]
    assert "no such file" in lines[-1]["error"]


async def test_copy_and_delete_answer_with_nothing(ollama: Simulator) -> None:
    copied = await ask(ollama.url, "POST", "/api/copy", {"source": PLAIN, "destination": "mine:v1"})
    assert (copied.status, copied.body, copied.header("content-type")) == (200, b"", None)
    assert "mine:v1" in [model["name"] for model in await tags(ollama)]
    deleted = await ask(ollama.url, "DELETE", "/api/delete", {"model": "mine:v1"})
    assert (deleted.status, deleted.body, deleted.header("content-type")) == (200, b"", None)
    assert "mine:v1" not in [model["name"] for model in await tags(ollama)]


async def test_blobs_are_kept_by_their_hash(ollama: Simulator) -> None:
    data = b"GGUF of no weight"
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    path, wrong = f"/api/blobs/{digest}", f"/api/blobs/sha256:{'0' * 64}"
    assert (await ask(ollama.url, "HEAD", path)).status == 404
    assert (await ask(ollama.url, "HEAD", "/api/blobs/nonsense")).status == 400
    mismatch = await ask(ollama.url, "POST", wrong, data)
    assert mismatch.status == 400
    assert mismatch.error.startswith('digest mismatch, expected "sha256:0000')
    assert (await ask(ollama.url, "POST", path, data)).status == 200  # kept under its true digest
    other = b"another"
    fresh = f"/api/blobs/sha256:{hashlib.sha256(other).hexdigest()}"
    assert (await ask(ollama.url, "POST", fresh, other)).status == 201
    assert (await ask(ollama.url, "POST", fresh, other)).status == 200
    assert (await ask(ollama.url, "HEAD", path)).status == 200
    made = await ask(ollama.url, "POST", "/api/create", {"model": "own", "files": {"model.gguf": digest}})
    assert made.lines[0] == {"status": "parsing GGUF"}
    assert made.lines[-1] == {"status": "success"}


async def test_a_created_model_is_its_base_with_changes(ollama: Simulator) -> None:
    body = {"model": "chef", "from": PLAIN, "system": "You cook.", "parameters": {"temperature": 0.3, "stop": ["x"]}}
    lines = (await ask(ollama.url, "POST", "/api/create", body)).lines
    assert lines[-1] == {"status": "success"}
    shown = (await ask(ollama.url, "POST", "/api/show", {"model": "chef"})).json
    assert shown["system"] == "You cook."
    assert shown["parameters"].splitlines() == [f"{'temperature':<30} 0.3", f'{"stop":<30} "x"']
    smaller = {"model": "small", "from": EMBEDDER, "quantize": "q8_0"}
    quantized = await ask(ollama.url, "POST", "/api/create", smaller)
    assert "quantizing F16 model to Q8_0" in [line["status"] for line in quantized.lines]
    again = await ask(ollama.url, "POST", "/api/create", {**smaller, "from": PLAIN})
    assert (again.status, again.error) == (500, "quantization is only supported for F16, BF16 and F32 models")


async def test_copies_share_what_is_loaded(ollama: Simulator) -> None:
    await ask(ollama.url, "POST", "/api/copy", {"source": PLAIN, "destination": "mine"})
    for name in ("mine", PLAIN):
        await ask(ollama.url, "POST", "/api/generate", {"model": name})
    assert [model["name"] for model in await loaded(ollama)] == ["mine:latest"]
    assert ollama.counters.loads == 1
    digests = {model["name"]: model["digest"] for model in await tags(ollama)}
    assert digests["mine:latest"] == digests[PLAIN]
    await ask(ollama.url, "DELETE", "/api/delete", {"model": "mine"})
    assert [model["name"] for model in await loaded(ollama)] == ["mine:latest"]


async def test_there_is_no_account_and_no_cloud(ollama: Simulator) -> None:
    me = await ask(ollama.url, "POST", "/api/me")
    assert (me.status, me.error) == (503, "account unavailable")
    assert set((await ask(ollama.url, "GET", "/api/status")).json["cloud"]) == {"disabled", "source"}
    signed_out = await ask(ollama.url, "POST", "/api/signout")
    assert (signed_out.status, signed_out.error) == (500, "there was an error signing out")


# What the command line sends, in its order.
async def test_the_command_line_can_list_show_run_stop_copy_and_remove(ollama: Simulator) -> None:
    show = {"model": PLAIN, "system": "", "template": "", "verbose": False, "options": None, "name": ""}
    prompt = {"model": PLAIN, "prompt": "hi", "suffix": "", "system": "", "template": "", "options": {}}
    stop = {**prompt, "prompt": "", "keep_alive": "0s"}
    steps: list[tuple[str, str, Any]] = [
        ("GET", "/api/version", b""),
        ("GET", "/api/tags", b""),
        ("GET", "/api/ps", b""),
        ("POST", "/api/show", show),
        ("POST", "/api/generate", {**prompt, "keep_alive": "5m0s"}),
        ("POST", "/api/generate", stop),
        ("POST", "/api/copy", {"source": PLAIN, "destination": "again"}),
        ("POST", "/api/pull", {"name": PLAIN, "insecure": False}),
        ("DELETE", "/api/delete", {"name": "again"}),
    ]
    for method, path, body in steps:
        assert (await ask(ollama.url, "HEAD", "/")).status == 200
        answer = await ask(
            ollama.url, method, path, body, headers={"User-Agent": "ollama/0.33.0 (amd64 linux) Go/go1.26"}
        )
        assert answer.status == 200, path
    assert await loaded(ollama) == []
