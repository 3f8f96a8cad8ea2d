"""The API without inference over real sockets, in front of simulated servers; official clients read the lists."""

import asyncio
import contextlib
import json
import logging
import re
import socket
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace

import anthropic
import httpx
import ollama
import openai
import pytest
import pytest_asyncio
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock import dialects, engines
from penstock.api.app import build_app
from penstock.api.dependencies import ApiDependencies, ApiSettings, RetryCounts
from penstock.control.discovery.watcher import Watcher
from penstock.domain.errors import ConnectFailed
from penstock.domain.fleet import Model, Server, ServerStatus, State
from penstock.gateway.fleet.catalog import Catalog
from penstock.gateway.metrics.meter import Meter
from penstock.gateway.metrics.series import CallOutcome
from penstock.gateway.routing import costs
from penstock.gateway.routing.complexity.classifier import Classifier
from penstock.gateway.routing.policy import Policy
from penstock.gateway.routing.router import Router
from penstock.gateway.upstream.transport.fetcher import Fetcher
from penstock.gateway.upstream.transport.pool import PoolLimits, Pools
from penstock.gateway.upstream.transport.upload import Uploader
from penstock.serving.origin_policy import OriginPolicy
from penstock.sim import SimOptions, Simulator

pytestmark = pytest.mark.asyncio(loop_scope="module")
ENGINES = engines.load()
DIALECTS = dialects.load()


@dataclass
class FakeStatus:
    """The `GatewayStatus` of the API under test; tests change it."""

    api_settings: ApiSettings | None = field(default_factory=ApiSettings)
    is_draining: bool = False
    has_probed_servers: bool = True
    classifier: Classifier = field(default_factory=Classifier)

    def probe_for_new_models(self) -> None:
        """Find no new model."""

    async def refresh_models(self) -> None:
        """The catalog is as the test made it."""

    def list_decisions(self) -> list:
        return []

    def count_levels(self) -> dict:
        return {}

    def list_breaker_states(self) -> dict:
        return {}

    def count_retries(self) -> RetryCounts:
        return RetryCounts(0, 0)


@contextlib.asynccontextmanager
async def serving(deps: ApiDependencies) -> AsyncIterator[str]:
    """Run the API under uvicorn and yield its address."""
    config = uvicorn.Config(build_app(deps), lifespan="off", log_config=None, server_header=False)
    server = uvicorn.Server(config)
    bound = socket.create_server(("127.0.0.1", 0))
    task = asyncio.create_task(server._serve([bound]))  # its backlog takes connections at once
    try:
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


def build_dependencies(catalog: Catalog, fetch) -> ApiDependencies:
    return ApiDependencies(
        version="9.8.7",
        catalog=catalog,
        meter=Meter(),
        router=Router(Policy(), costs.load_costs(), {k: e.operations for k, e in ENGINES.items()}),
        engines=ENGINES,
        dialects=DIALECTS,
        fetch=fetch,
        upload=Uploader(ENGINES),
        gateway=FakeStatus(),
        is_origin_allowed=OriginPolicy().is_origin_allowed,
        clock=time.monotonic,
        wall=time.time,
        started_at=time.monotonic() - 100,
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def deps() -> AsyncIterator[ApiDependencies]:
    """The API in front of two simulated Ollama servers and a simulated vLLM."""
    async with contextlib.AsyncExitStack() as stack:
        sims = {}
        for name, kind, models in (
            ("primary", "ollama", ("gemma3:12b", "bge-m3:latest")),
            ("localhost", "ollama", ("gemma3:1b", "bge-m3:latest")),
            ("vllm", "vllm", ("meta-llama/Llama-3.1-8B",)),
        ):
            sims[name] = await stack.enter_async_context(Simulator(SimOptions(kind=kind, models=models)))
        pools = Pools(PoolLimits())
        stack.callback(pools.close)
        fetch = Fetcher(pools, ENGINES, time.monotonic)
        catalog = Catalog({"llama-alias": ("meta-llama/Llama-3.1-8B",)})
        servers = [Server(name, sim.options.kind, (sim.url,)) for name, sim in sims.items()]
        watcher = Watcher(servers, ENGINES, catalog, fetch, timeout=10, interval=600)
        watcher.start()
        stack.push_async_callback(watcher.stop)
        await watcher.wait_for_first_probes()
        yield build_dependencies(catalog, fetch)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(deps) -> AsyncIterator[str]:
    async with serving(deps) as address:
        yield address


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def web(url) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url) as client:
        yield client


@pytest.fixture(autouse=True)
def reset_fleet(deps) -> Iterator[None]:
    """Restore the fleet of the first probes before each test."""
    catalog = deps.catalog
    before = catalog.fleet.statuses
    yield
    catalog.publish(before)
    catalog.loads["localhost"].running = 0
    deps.gateway.__init__()


@pytest_asyncio.fixture(loop_scope="module")
async def metered_api(deps) -> AsyncIterator[tuple[Meter, httpx.AsyncClient]]:
    """The API with a meter of its own."""
    own = replace(deps, meter=Meter())
    async with serving(own) as address, httpx.AsyncClient(base_url=address) as client:
        yield own.meter, client


async def test_the_root_is_json_for_programs_html_for_browsers_and_text_for_ollama(web):
    data = (await web.get("/")).json()
    assert {"service", "version", "description", "endpoints", "timestamp"} <= data.keys()
    assert data["version"] == "9.8.7"
    page = await web.get("/", headers={"accept": "text/html,*/*;q=0.8"})
    assert page.headers["content-type"].startswith("text/html")
    word = await web.get("/", headers={"user-agent": "ollama/0.9 (amd64 linux)"})
    assert (word.text, word.headers["content-type"]) == ("Ollama is running", "text/plain; charset=utf-8")


@pytest.mark.parametrize("path", ["/", "/health", "/livez", "/readyz", "/api/tags", "/api/version"])
async def test_head_answers_like_get_without_a_body(web, path):
    head, get = await web.head(path), await web.get(path)
    assert head.status_code == get.status_code == 200
    assert head.content == b""
    assert head.headers["content-length"] == get.headers["content-length"]


async def test_head_of_ollamas_other_lists_is_refused_as_in_ollama(web):
    answer = await web.head("/api/ps")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")


@pytest.mark.parametrize("path", ["/", "/docs"])
async def test_pages_load_nothing_from_other_hosts_and_match_their_policy(web, path):
    page = await web.get(path, headers={"accept": "text/html"})
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page.text)
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert policy.count("sha256-") == len(re.findall("<(?:script|style)>", page.text)) == 2
    assert not re.search(r"\son\w+=|\sstyle=", page.text)


async def test_the_page_has_the_same_texts_in_both_languages(web):
    page = (await web.get("/", headers={"accept": "text/html"})).text
    english, russian = (re.search(rf"  {code}: {{(.*?)}},\n", page, re.DOTALL)[1] for code in ("en", "ru"))
    keys = [re.findall(r"(\w+): \"", text) for text in (english, russian)]
    assert keys[0] == keys[1]
    assert set(re.findall(r'data-say="(\w+)"', page)) <= set(keys[0])


@pytest.mark.parametrize("path", ["/health", "/v1/health"])
async def test_health_is_200_while_anything_can_answer(web, path):
    answer = await web.get(path)
    assert answer.status_code == 200
    services = answer.json()["services"]
    assert answer.json()["status"] == "healthy"
    assert services["ollama"]["total_models"] == 3
    assert services["ollama"]["bge_m3_available"] is True
    assert services["vllm"]["status"] == "healthy"


async def test_health_is_503_with_the_address_when_no_server_can_answer(deps, web):
    away = Server("primary", "ollama", ("http://10.0.0.1:11434",))
    deps.catalog.publish([ServerStatus(away, State.DOWN, error="connection refused")])
    answer = await web.get("/health")
    assert answer.status_code == 503
    assert "http://10.0.0.1:11434" in answer.text
    assert "connection refused" in answer.text
    deps.gateway.api_settings = ApiSettings(full_health=False)
    assert "10.0.0.1" not in (await web.get("/health")).text


async def test_models_are_listed_once_in_the_service_apis_form(web):
    data = (await web.get("/models")).json()
    names = [model["name"] for model in data["models"]]
    assert names == ["bge-m3", "gemma3:12b", "gemma3:1b"]
    assert data["total_count"] == 3


async def test_servers_are_listed_with_their_activity(deps, web):
    deps.catalog.loads["localhost"].running = 2
    data = (await web.get("/api/models/servers")).json()
    by_name = {server["name"]: server for server in data["servers"]}
    assert by_name["localhost"]["running"] == 2
    assert by_name["primary"]["state"] == "up"
    assert by_name["vllm"]["models"] == ["meta-llama/Llama-3.1-8B"]


@pytest.mark.parametrize("path", ["/stats", "/v1/stats"])
async def test_stats_count_finished_calls(metered_api, path):
    meter, web = metered_api
    meter.series_of("gemma3:1b", "localhost")["openai.chat"].record(CallOutcome("ok", 4, 6, 10.0, 10.2, 11.0))
    meter.series_of("", "")["openai.chat"].record(CallOutcome("no_server", 0, 0, 10.0, 0.0, 10.1))
    meter.series_of("gemma3:1b", "localhost")["openai.chat"].count_retry()
    data = (await web.get(path)).json()
    assert data["requests"]["total"] == 2
    assert data["requests"]["errors"] == data["requests"]["retries"] == 1
    assert data["requests"]["by_code"] == {"ok": 1, "no_server": 1}
    assert data["tokens"] == {"prompt": 4, "completion": 6, "total": 10}
    assert 640 <= data["latency_ms"]["p50"] <= 1280
    assert data["models"]["gemma3:1b"]["requests"] == 1
    assert data["servers"]["localhost"]["requests"] == 1
    assert data["servers"]["vllm"]["state"] == "up"
    assert data["uptime_seconds"] >= 100
    assert data["process"]["pid"] > 0
    assert data["process"]["memory_bytes"] > 1 << 20
    assert data["host"]["cpus"] >= 1


async def test_every_metric_is_declared_once_and_routing_has_its_own(metered_api):
    _, web = metered_api
    text = (await web.get("/metrics")).text
    declared = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(declared) == len(set(declared))
    assert {"penstock_server_waiting", "penstock_routing_decisions_total", "penstock_breaker_state"} <= set(declared)
    assert 'penstock_server_waiting{server="' in text


async def test_metrics_are_prometheus_text_with_servers_and_calls(metered_api):
    meter, web = metered_api
    meter.series_of("m", "vllm")["openai.chat"].record(CallOutcome("ok", 0, 0, 10.0, 10.2, 11.0))
    answer = await web.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    text = answer.text
    assert 'penstock_server_up{server="primary",kind="ollama"} 1\n' in text
    assert 'penstock_requests_total{wire="openai.chat",model="m",server="vllm",code="ok"} 1\n' in text
    for name in (
        "gen_ai_server_time_to_first_token_seconds",
        "gen_ai_server_request_duration_seconds",
        "gen_ai_client_token_usage",
        "penstock_retries_total",
        "penstock_server_running",
        "process_start_time_seconds",
    ):
        assert f"# TYPE {name} " in text
    assert text.count("# TYPE") == len(set(re.findall(r"# TYPE (\S+)", text)))


async def test_readiness_waits_for_the_first_probe_and_ends_with_the_drain(deps, web):
    assert (await web.get("/readyz")).status_code == 200
    deps.gateway.has_probed_servers = False
    assert (await web.get("/readyz")).status_code == 503
    deps.gateway.has_probed_servers, deps.gateway.is_draining = True, True
    assert (await web.get("/readyz")).status_code == 503
    assert (await web.get("/livez")).status_code == 200


async def test_openais_client_lists_and_finds_models_even_with_slashes_and_aliases(url):
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client:
        models = [model.id async for model in client.models.list()]
        assert models == ["bge-m3:latest", "gemma3:12b", "gemma3:1b", "meta-llama/Llama-3.1-8B", "llama-alias"]
        assert (await client.models.retrieve("meta-llama/Llama-3.1-8B")).owned_by == "meta-llama"
        assert (await client.models.retrieve("BGE-M3")).id == "bge-m3:latest"
        assert (await client.models.retrieve("llama-alias")).id == "meta-llama/Llama-3.1-8B"
        with pytest.raises(openai.NotFoundError) as missing:
            await client.models.retrieve("gemma3:2b")
        assert missing.value.code == "model_not_found"
        assert "gemma3:1b" in missing.value.message


async def test_anthropics_client_lists_models_page_by_page(url):
    async with anthropic.AsyncAnthropic(base_url=url, api_key="x", max_retries=0) as client:
        names = [model.id async for model in client.models.list(limit=3)]
        assert names == ["bge-m3:latest", "gemma3:12b", "gemma3:1b", "meta-llama/Llama-3.1-8B", "llama-alias"]
        first = await client.models.list(limit=3)
        assert (first.has_more, first.first_id, first.last_id) == (True, "bge-m3:latest", "gemma3:1b")
        before = await client.models.list(limit=2, before_id="gemma3:1b")
        assert [model.id for model in before.data] == ["bge-m3:latest", "gemma3:12b"]
        assert (await client.models.retrieve("gemma3:1b")).type == "model"
        with pytest.raises(anthropic.BadRequestError):
            await client.models.list(after_id="nothing")


@pytest.mark.parametrize("limit", ["0", "-1", "x", "1e3", "99999999999999999999", "²"])
async def test_an_invalid_page_size_is_refused(web, limit):
    answer = await web.get("/v1/models", params={"limit": limit}, headers={"anthropic-version": "2023-06-01"})
    assert answer.status_code == 400
    assert "limit" in answer.json()["error"]["message"]


async def test_ollamas_client_lists_and_shows_models_and_loaded_ones(deps, url):
    client = ollama.AsyncClient(host=url)
    listed = await client.list()
    assert {model.model for model in listed.models} == {
        "gemma3:12b",
        "gemma3:1b",
        "bge-m3:latest",
        "meta-llama/Llama-3.1-8B:latest",
        "llama-alias:latest",
    }
    assert all(len(model.digest) >= 12 for model in listed.models)
    description = await client.show("gemma3:1b")
    assert description.modelinfo["general.architecture"]
    other = await client.show("meta-llama/Llama-3.1-8B")
    assert "completion" in other.capabilities
    with pytest.raises(ollama.ResponseError, match="model 'nope:latest' not found"):
        await client.show("nope")
    running = await client.ps()
    assert {model.model for model in running.models} >= {"meta-llama/Llama-3.1-8B:latest"}
    await client._client.aclose()


async def test_show_is_answered_by_the_server_if_it_is_an_ollama(deps, web):
    server = next(s for s in deps.catalog.fleet.statuses if s.server.name == "localhost")
    body = {"model": "gemma3:1b"}
    async with httpx.AsyncClient() as direct:
        own = await direct.post(f"{server.url}/api/show", json=body)
    assert (await web.post("/api/show", json=body)).json() == own.json()
    assert (await web.post("/api/show", json={"name": "GEMMA3:1B"})).status_code == 200


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'{"model": 5}', b"{}", b'{"model":"', b"\xff\xfe", b"[" * 100000])
async def test_an_invalid_show_is_refused_in_ollamas_format(web, body):
    answer = await web.post("/api/show", content=body)
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]
    assert isinstance(answer.json()["error"], str)


async def test_a_show_that_is_too_long_is_refused(web):
    answer = await web.post("/api/show", content=b" " * (2 << 20))
    assert answer.status_code == 413


async def test_the_gateway_describes_a_model_when_its_server_cannot(deps, web):
    catalog = deps.catalog
    gone = Server("gone", "ollama", ("http://127.0.0.1:1",))
    catalog.publish([ServerStatus(gone, State.UP, gone.url, (Model("m:latest", context_length=99, family="f"),))])
    data = (await web.post("/api/show", json={"model": "m"})).json()
    assert data["model_info"]["f.context_length"] == 99


async def test_the_version_is_the_lowest_that_clients_can_rely_on(deps, web):
    catalog = deps.catalog
    data = [replace(s, version=v) for s, v in zip(catalog.fleet.statuses, ("0.12.1", "0.9.10", "0.1.0"), strict=True)]
    catalog.publish(data)
    assert (await web.get("/api/version")).json() == {"version": "0.9.10"}
    catalog.publish([])
    assert re.fullmatch(r"\d+\.\d+\.\d+", (await web.get("/api/version")).json()["version"])


async def test_agent_chat_reports_its_chain_without_ollama(web):
    data = (await web.get("/api/chat/status")).json()
    assert list(data) == ["victoria", "mlx"]
    assert (await web.get("/api/chat/models")).json()["models"] == []


@pytest.mark.parametrize("path", ["/v2/health", "/v3/chat", "/v2", "/v10/x"])
async def test_other_versions_are_404_and_name_v1(web, path):
    answer = await web.get(path)
    assert answer.status_code == 404
    assert "v1" in answer.text


@pytest.mark.parametrize(
    ("method", "path", "status", "allow", "shape"),
    [
        ("GET", "/v1/chat/completions", 405, "POST", "openai"),
        ("DELETE", "/v1/models", 405, "GET, HEAD", "openai"),
        ("POST", "/v1/models/a/b", 405, "GET", "openai"),
        ("GET", "/v1/nothing", 404, None, "openai"),
        ("POST", "/v1/chat/completion", 404, None, "openai"),
        ("GET", "/v1/chat", 405, "POST", "service"),
        ("GET", "/v1/messages", 405, "POST", "anthropic"),
        ("GET", "/v1/messages/nothing", 404, None, "anthropic"),
        ("GET", "/api/generate", 405, "POST", "ollama"),
        ("PUT", "/api/tags", 405, "GET, HEAD", "ollama"),
        ("POST", "/api/nothing", 404, None, "ollama"),
        ("GET", "/chat", 405, "POST", "service"),
        ("POST", "/stats", 405, "GET", "service"),
        ("GET", "/api/v1/chat", 405, "POST", "distributed"),
        ("GET", "/api/chat/send", 405, "POST", "agent"),
        ("GET", "/nothing", 404, None, "problem"),
        ("POST", "/", 405, "GET, HEAD", "problem"),
        ("POST", "/metrics", 405, "GET", "problem"),
    ],
)
async def test_unknown_paths_and_wrong_methods_get_an_error_in_the_dialect_of_the_path(
    web, method, path, status, allow, shape
):
    answer = await web.request(method, path)
    assert (answer.status_code, answer.headers.get("allow")) == (status, allow)
    data = answer.json()
    match shape:
        case "openai":
            assert set(data["error"]) >= {"message", "type", "param", "code"}
        case "anthropic":
            assert (data["type"], set(data["error"]) >= {"type", "message"}) == ("error", True)
        case "ollama":
            assert isinstance(data["error"], str)
        case "service":
            assert (data["status"], set(data["error"]) >= {"code", "message"}) == ("error", True)
        case "distributed":
            assert data["success"] is False
        case _:
            assert answer.headers["content-type"] == "application/problem+json"
            assert data["status"] == status


async def test_a_similar_path_is_suggested(web):
    assert "Did you mean /v1/embeddings?" in (await web.post("/v1/embedings")).text
    assert "Did you mean /health?" in (await web.get("/healthz")).text


async def test_an_unexpected_error_is_a_500_with_its_request_id(deps, web, caplog):
    deps.gateway.api_settings = None
    for path in ("/health", "/v1/health"):
        answer = await web.get(path, headers={"x-request-id": "my-id-7"})
        assert answer.status_code == 500
        assert answer.headers["x-request-id"] == "my-id-7"
        assert "Traceback" not in answer.text
        assert "my-id-7" in answer.text
    assert [r.levelno for r in caplog.records if "my-id-7" in r.getMessage()] == [logging.ERROR] * 2


async def test_every_response_has_a_request_id_the_callers_own_when_it_is_valid(web):
    assert (await web.get("/livez", headers={"x-request-id": "a.b-c"})).headers["x-request-id"] == "a.b-c"
    made = (await web.get("/livez", headers={"x-request-id": 'no "good" one'})).headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{16}", made)


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://localhost:3000", True),
        ("http://127.0.0.1:5173", True),
        ("http://[::1]:80", True),
        ("https://evil.example", False),
        ("null", False),
    ],
)
async def test_pages_of_loopback_may_read_answers_and_no_others(web, origin, allowed):
    for path in ("/health", "/nothing"):
        answer = await web.get(path, headers={"origin": origin})
        assert answer.headers.get("access-control-allow-origin") == (origin if allowed else None)
    asked = {"origin": origin, "access-control-request-method": "POST", "access-control-request-headers": "x-a, x-b"}
    preflight = await web.options("/v1/chat/completions", headers=asked)
    assert preflight.status_code == 204
    assert ("access-control-allow-methods" in preflight.headers) is allowed
    assert preflight.headers.get("access-control-allow-headers") == ("x-a, x-b" if allowed else None)
    assert "access-control-allow-credentials" not in preflight.headers


async def test_options_without_an_origin_lists_the_methods(web):
    answer = await web.options("/api/chat")
    assert (answer.status_code, answer.headers["allow"]) == (204, "POST, OPTIONS")


async def test_the_description_covers_the_inference_routes_too(web):
    data = (await web.get("/openapi.json")).json()
    for dialect in DIALECTS:
        for endpoint in dialect.endpoints:
            for path in endpoint.paths:
                assert endpoint.method.lower() in data["paths"][path]
    assert {"/health", "/models", "/stats", "/api/tags", "/v1/models"} <= data["paths"].keys()
    names = [o["operationId"] for methods in data["paths"].values() for o in methods.values()]
    assert len(names) == len(set(names))
    assert data["info"]["version"] == "9.8.7"


async def test_answers_are_unescaped_utf8_and_not_kept_by_caches(deps, web):
    deps.catalog.publish(
        [ServerStatus(Server("сервер", "vllm", ("http://x:1",)), State.UP, "http://x:1", (Model("модель"),))]
    )
    answer = await web.get("/v1/models")
    assert "модель".encode() in answer.content
    assert answer.headers["cache-control"] == "no-store"
    assert json.loads((await web.get("/api/models/servers")).content)["servers"][0]["name"] == "сервер"
    assert 'server="сервер"' in (await web.get("/metrics")).text


class ApiRequest:
    """One ASGI request to the application, and its outcome."""

    def __init__(self, app, method: str, path: str, query: bytes, headers: list[tuple[bytes, bytes]], body: bytes):
        self.app, self.body, self.messages = app, body, []
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(errors="replace"),
            "query_string": query,
            "root_path": "",
            "headers": [(b"host", b"127.0.0.1"), *headers],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8005),
            "state": {},
        }

    async def receive(self) -> dict:
        body, self.body = self.body, b""
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message) -> None:
        self.messages.append(message)

    async def answer(self) -> tuple[int, bytes]:
        await self.app(self.scope, self.receive, self.send)
        return self.messages[0]["status"], b"".join(m.get("body", b"") for m in self.messages[1:])


PATHS = [
    "/",
    "/v1/models",
    "/v1/models/",
    "/v1/models/x",
    "/api/show",
    "/api/tags",
    "/stats",
    "/openapi.json",
    "/v1/",
    "/api/",
]
HEADERS = ["accept", "origin", "user-agent", "anthropic-version", "x-request-id", "access-control-request-method"]


async def nowhere(*_) -> None:
    raise ConnectFailed("there is nothing")


FLEET = Catalog()
FLEET.publish([ServerStatus(Server("s", "vllm", ("http://x:1",)), State.UP, "http://x:1", (Model("x"), Model("a/b")))])
APP = build_app(build_dependencies(FLEET, nowhere))


@settings(max_examples=150, deadline=None)
@given(
    method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"]),
    path=st.one_of(
        st.sampled_from(PATHS), st.text(max_size=30).map("/".__add__), st.text(max_size=8).map("/v1/models/".__add__)
    ),
    query=st.one_of(st.binary(max_size=30), st.text("0123456789&=limitafter_d%", max_size=20).map(str.encode)),
    headers=st.dictionaries(st.sampled_from(HEADERS).map(str.encode), st.binary(max_size=30), max_size=4),
    body=st.one_of(st.binary(max_size=60), st.text(max_size=30).map(lambda text: json.dumps({"model": text}).encode())),
)
async def test_no_request_makes_the_api_fail(method, path, query, headers, body):
    asked = ApiRequest(APP, method, path, query, list(headers.items()), body)
    status, answer = await asked.answer()
    assert status < 500
    assert status < 400 or json.loads(answer)
    assert all(b"\n" not in value and b"\r" not in value for _, value in asked.messages[0]["headers"])
