"""The gateway in front of an Ollama as it really is: names, lists, files, account, error texts."""

import hashlib
import json
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from penstock.sim import SimOptions, Simulator
from tests.support.gateway import RunningGateway, run_gateway, server_settings

HELLO = [{"role": "user", "content": "hi"}]
NAMES = (
    "tiny",
    "TINY:latest",
    "library/tiny",
    "LIBRARY/tiny",
    "registry.ollama.ai/library/tiny:latest",
    "https://registry.ollama.ai/library/tiny",
    "tiny:local",
)


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    options = SimOptions(kind="ollama", port=0, models=("tiny", "nat"), load_seconds=0.0)
    simulator = Simulator(options)
    await simulator.start()
    yield simulator
    await simulator.stop()


@pytest.fixture
async def gateway(sim: Simulator) -> AsyncIterator[RunningGateway]:
    server = server_settings("primary", sim.url, "ollama")
    async with run_gateway(server, probe=True, tidy=False, aliases={"mine": ("library/tiny",)}) as running:
        yield running


@pytest.fixture
async def client(gateway: RunningGateway) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=20, trust_env=False) as client:
        yield client


async def list_names(client: httpx.AsyncClient, path: str) -> set[str]:
    return {model["name"] for model in (await client.get(path)).json()["models"]}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/chat", {"messages": HELLO, "stream": False, "options": {"num_predict": 1}}),
        ("/api/generate", {"prompt": "hi", "stream": False, "options": {"num_predict": 1}}),
        ("/api/show", {}),
        ("/v1/chat/completions", {"messages": HELLO, "max_tokens": 1}),
        ("/v1/completions", {"prompt": "hi", "max_tokens": 1}),
        ("/v1/responses", {"input": "hi", "max_output_tokens": 16}),
        ("/v1/messages", {"messages": HELLO, "max_tokens": 1}),
    ],
)
async def test_every_name_of_a_model_leads_to_it(client: httpx.AsyncClient, name: str, path: str, body: Any) -> None:
    response = await client.post(path, json={"model": name, **body})
    assert response.status_code == 200, response.text
    if path.startswith(("/api/chat", "/api/generate")):
        assert response.json()["model"] == name


async def test_full_names_in_an_alias_and_in_management_are_known(client: httpx.AsyncClient) -> None:
    chat = {"model": "mine", "messages": HELLO, "stream": False, "options": {"num_predict": 1}}
    assert (await client.post("/api/chat", json=chat)).status_code == 200
    copy = {"source": "library/tiny", "destination": "copy"}
    response = await client.post("/api/copy", json=copy)
    assert (response.status_code, response.headers.get("content-type")) == (200, None)
    assert "copy:latest" in await list_names(client, "/api/tags")
    response = await client.request("DELETE", "/api/delete", json={"model": "registry.ollama.ai/library/copy"})
    assert (response.status_code, response.headers.get("content-type")) == (200, None)
    assert "copy:latest" not in await list_names(client, "/api/tags")


async def test_the_loaded_models_are_true_at_once(client: httpx.AsyncClient) -> None:
    for _ in range(3):
        await client.post("/api/generate", json={"model": "tiny"})
        assert await list_names(client, "/api/ps") == {"tiny:latest"}
        await client.post("/api/generate", json={"model": "tiny", "keep_alive": 0})
        assert await list_names(client, "/api/ps") == set()


async def test_the_window_and_the_memory_of_a_loaded_model_are_the_servers(
    client: httpx.AsyncClient, sim: Simulator
) -> None:
    for window in (512, 1024):
        await client.post("/api/generate", json={"model": "tiny", "options": {"num_ctx": window}})
        (listed,) = (await client.get("/api/ps")).json()["models"]
        async with httpx.AsyncClient(trust_env=False) as direct:
            (own,) = (await direct.get(f"{sim.url}/api/ps")).json()["models"]
        assert (listed["context_length"], listed["size"]) == (window, own["size"])


async def test_repeated_lists_cost_one_probe_a_second(client: httpx.AsyncClient, gateway: RunningGateway) -> None:
    await client.get("/api/tags")
    (watched,) = gateway.gateway.watcher._watched.values()
    began, probes = time.monotonic(), set()
    for _ in range(10):
        for path in ("/api/tags", "/api/ps"):
            await client.get(path)
            probes.add(watched.schedule.started_at)
    assert len(probes) <= 2 + (time.monotonic() - began)


async def test_a_model_is_made_of_a_file(client: httpx.AsyncClient) -> None:
    data = b"GGUF" + bytes(1000)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert (await client.head(f"/api/blobs/{digest}")).status_code == 404
    first = await client.post(f"/api/blobs/{digest}", content=data)
    assert (first.status_code, first.headers.get("content-type")) == (201, None)

    async def send_pieces() -> AsyncIterator[bytes]:
        yield data[:500]
        yield data[500:]

    assert (await client.post(f"/api/blobs/{digest}", content=send_pieces())).status_code == 200
    assert (await client.head(f"/api/blobs/{digest}")).status_code == 200
    wrong = await client.post(f"/api/blobs/sha256:{'1' * 64}", content=data)
    assert wrong.status_code == 400
    assert wrong.json()["error"].startswith("digest mismatch")
    for path in ("/api/blobs/xyz", "/api/blobs/sha256:..%2f..", "/api/blobs/a%0d%0ab:c"):
        assert (await client.post(path, content=data)).status_code in (400, 404)


async def test_a_file_and_its_model_go_to_the_main_server(sim: Simulator) -> None:
    other = Simulator(SimOptions(kind="ollama", port=0, models=("tiny",), load_seconds=0.0))
    await other.start()
    servers = (
        server_settings("second", other.url, "ollama", priority="SECONDARY"),
        server_settings("primary", sim.url, "ollama", priority="PRIMARY"),
    )
    data = b"GGUF" + bytes(2000)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    try:
        async with (
            run_gateway(*servers, probe=True, tidy=False) as running,
            httpx.AsyncClient(timeout=20, trust_env=False) as client,
        ):
            assert (await client.post(f"{running.url}/api/blobs/{digest}", content=data)).status_code == 201
            assert (await client.head(f"{sim.url}/api/blobs/{digest}")).status_code == 200
            assert (await client.head(f"{other.url}/api/blobs/{digest}")).status_code == 404
            for _ in range(4):
                body = {"model": "made", "files": {"m.gguf": digest}}
                response = await client.post(f"{running.url}/api/create", json=body)
                assert "no such file" not in response.text
    finally:
        await other.stop()


async def test_the_account_and_the_status_are_the_main_servers(client: httpx.AsyncClient, sim: Simulator) -> None:
    async with httpx.AsyncClient(base_url=sim.url, timeout=20, trust_env=False) as direct:
        for method, path in (("GET", "/api/status"), ("POST", "/api/me"), ("POST", "/api/signout")):
            own, passed = await direct.request(method, path), await client.request(method, path)
            assert (passed.status_code, passed.content) == (own.status_code, own.content)
            assert passed.headers["content-type"] == "application/json; charset=utf-8"


async def test_the_status_without_an_ollama_server_says_that_there_is_no_cloud() -> None:
    async with (
        run_gateway(server_settings("gpu", "http://127.0.0.1:1", "vllm"), tidy=False) as running,
        httpx.AsyncClient(base_url=running.url, trust_env=False) as client,
    ):
        assert (await client.get("/api/status")).json()["cloud"]["disabled"] is True
        assert (await client.post("/api/me")).status_code == 503
        assert (await client.post(f"/api/blobs/sha256:{'1' * 64}", content=b"x")).status_code == 503


@pytest.mark.parametrize("path", ["/api/chat/", "//api/chat", "/api//chat", "//api//chat//"])
async def test_superfluous_slashes_change_nothing(gateway: RunningGateway, path: str) -> None:
    chat = {"model": "tiny", "messages": HELLO, "stream": False, "options": {"num_predict": 1}}
    async with httpx.AsyncClient(timeout=20, trust_env=False) as client:
        assert (await client.post(f"{gateway.url}{path}", json=chat)).json()["done"] is True
        assert (await client.get(f"{gateway.url}/api/tags/")).status_code == 200
        assert (await client.get(f"{gateway.url}/api/nothing/")).status_code == 404


@pytest.mark.parametrize("blank", [" ", "\t", "\n "])
async def test_a_blank_model_is_no_model(client: httpx.AsyncClient, blank: str) -> None:
    for path, status in (("chat", 400), ("generate", 404), ("embed", 404), ("embeddings", 400), ("show", 400)):
        body = {"model": blank, "messages": HELLO, "prompt": "hi", "input": "hi"}
        assert (await client.post(f"/api/{path}", json=body)).status_code == status


async def test_ollamas_clients_get_its_own_error_texts(client: httpx.AsyncClient, sim: Simulator) -> None:
    too_long = {"role": "user", "content": "word " * 3000}
    bodies = (
        {"model": "tiny", "messages": HELLO, "think": True},
        {"model": "tiny", "messages": [{"role": "user", "content": "x", "images": ["aGk="]}]},
        {"model": "tiny", "messages": HELLO, "format": {"type": "bogus"}},
        {"model": "nat", "messages": [too_long], "options": {"num_ctx": 512}, "truncate": False, "shift": False},
    )
    async with httpx.AsyncClient(base_url=sim.url, timeout=20, trust_env=False) as direct:
        for body in bodies:
            own = await direct.post("/api/chat", json={**body, "stream": False})
            passed = await client.post("/api/chat", json={**body, "stream": False})
            assert own.status_code >= 400
            assert (passed.status_code, passed.json()) == (own.status_code, own.json())
    assert "exceed_context_size_error" in passed.json()["error"]
    assert "exceeds the available context size" in json.loads(passed.json()["error"])["error"]["message"]


async def test_the_log_says_that_localhost_joins(sim: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "penstock")
    async with run_gateway(server_settings("localhost", sim.url, "ollama", configured=False), probe=True, tidy=False):
        pass
    assert any("include_localhost: false in llm.providers.ollama" in record.getMessage() for record in caplog.records)
