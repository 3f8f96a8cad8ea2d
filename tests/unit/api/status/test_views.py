"""Response bodies of the service API about itself: description, health, models and servers."""

import json
from typing import Any

import pytest

from penstock.api.status import views
from penstock.domain.fleet import Fleet, Model, Priority, Server, ServerStatus, State

NOW = 1756634400.0
MONOTONIC = 1000.0
BGE = Model("bge-m3:latest", 1_500_000_000, "566.70M", embedding_length=1024, capabilities=frozenset({"embedding"}))
GPT_OSS = Model("gpt-oss:20b", 13_800_000_000, "20.9B", "MXFP4", context_length=131072, is_loaded=True)
OLLAMA = "http://localhost:11434"


def at(
    kind: str, url: str, *models: Model, state: State = State.UP, name: str = "", server: dict[str, Any] | None = None,
    **more: Any,
) -> ServerStatus:  # fmt: skip
    settings = {"setting": f"{kind.upper()}_URL"} | (server or {})
    return ServerStatus(Server(name or kind, kind, (url,), **settings), state, models=models, **more)


def down(kind: str, url: str, error: str = "connection refused", **more: Any) -> ServerStatus:
    return at(kind, url, state=State.DOWN, error=error, **more)


def health(*statuses: ServerStatus, mode: str = "ollama", full: bool = True) -> tuple[int, dict[str, Any]]:
    code, body = views.render_health(Fleet(statuses), mode, NOW, MONOTONIC, full=full)
    return code, json.loads(body)


def test_health_has_the_documents_shape() -> None:
    code, data = health(
        at("ollama", OLLAMA, BGE, GPT_OSS, response_time=0.0451, checked_at=990.0),
        at("vllm", "http://localhost:8000", response_time=0.002, checked_at=990.0),
    )
    assert (code, data["status"], data["timestamp"]) == (200, "healthy", "2025-08-31T10:00:00")
    assert data["services"]["ollama"] == {
        "status": "healthy",
        "ollama_url": OLLAMA,
        "available_models": ["bge-m3", "gpt-oss:20b"],
        "bge_m3_available": True,
        "gpt_oss_available": True,
        "total_models": 2,
        "response_time_ms": 45.1,
        "last_check": "2025-08-31T09:59:50",
        "servers": {"ollama": "healthy"},
    }
    assert data["services"]["vllm"].items() >= {"status": "healthy", "url": "http://localhost:8000"}.items()
    assert data.keys() == {"status", "services", "timestamp"}


def test_a_provider_that_is_not_in_use_is_disabled_and_no_fault() -> None:
    code, data = health(
        at("ollama", OLLAMA, GPT_OSS), down("vllm", "http://localhost:8000", server={"is_configured": False})
    )
    assert (code, data["status"]) == (200, "healthy")
    assert data["services"]["vllm"] == {"status": "disabled", "url": "http://localhost:8000"}
    assert data["services"]["ollama"]["bge_m3_available"] is False
    assert "problems" not in data


def test_every_provider_in_use_has_an_entry() -> None:
    _, data = health(at("llamacpp", "http://box:8080", Model("tiny")), at("victoria", "http://v:8010"))
    assert data["services"].keys() == {"ollama", "vllm", "llamacpp", "victoria"}
    assert data["services"]["llamacpp"]["available_models"] == ["tiny"]
    assert data["services"]["ollama"]["status"] == "disabled"


def test_one_server_down_of_two_is_degraded_and_reported() -> None:
    code, data = health(
        at("ollama", OLLAMA, GPT_OSS), down("ollama", "http://u:secret@gpu:11434", name="gpu", response_time=9.0)
    )
    assert (code, data["status"], data["services"]["ollama"]["status"]) == (200, "degraded", "degraded")
    assert data["services"]["ollama"]["servers"] == {"ollama": "healthy", "gpu": "unhealthy"}
    assert data["problems"] == [
        {
            "server": "gpu",
            "kind": "ollama",
            "url": "http://gpu:11434",
            "tried": ["http://gpu:11434"],
            "error": "connection refused",
            "what_to_do": "Start it (`ollama serve`), or set OLLAMA_URL to the address where it runs.",
        }
    ]
    assert "secret" not in json.dumps(data)


def test_nothing_that_can_answer_is_503_with_addresses_and_remedies() -> None:
    code, data = health(down("llamacpp", "http://box:8080", server={"setting": ""}))
    assert (code, data["status"], data["services"]["llamacpp"]["status"]) == (503, "unhealthy", "unhealthy")
    assert data["services"]["llamacpp"]["response_time_ms"] is None
    assert data["problems"][0]["url"] == "http://box:8080"
    assert "penstock.yaml" in data["problems"][0]["what_to_do"]
    assert "problems" in data["message"]


def test_with_nothing_configured_the_usual_addresses_are_named() -> None:
    code, data = health(down("ollama", OLLAMA, server={"is_configured": False}))
    assert (code, data["services"]["ollama"]["status"]) == (503, "disabled")
    assert data["problems"][0]["tried"] == [OLLAMA]


def test_servers_without_a_model_cannot_answer() -> None:
    code, data = health(at("ollama", OLLAMA))
    assert (code, data["status"]) == (503, "unhealthy")
    assert "ollama pull" in data["message"]


def test_a_loading_server_is_degraded_and_will_be_probed_again() -> None:
    code, data = health(at("vllm", "http://localhost:8000", state=State.LOADING))
    assert (code, data["services"]["vllm"]["status"]) == (503, "degraded")
    assert data["services"]["vllm"]["servers"] == {"vllm": "loading"}
    assert data["problems"][0]["error"] == "It is loading."
    assert "Wait" in data["problems"][0]["what_to_do"]


def test_a_language_model_turned_off_is_disabled() -> None:
    code, data = health(at("ollama", OLLAMA, GPT_OSS), mode="none")
    assert (code, data["status"]) == (503, "disabled")
    assert "LLM_MODE" in data["message"]


def test_without_full_health_only_statuses_are_listed() -> None:
    code, data = health(at("ollama", OLLAMA, GPT_OSS), down("mlx", "http://m:1"), full=False)
    assert code == 200
    assert data == {
        "status": "degraded",
        "services": {
            "ollama": {"status": "healthy"},
            "vllm": {"status": "disabled"},
            "mlx": {"status": "unhealthy"},
        },
        "timestamp": "2025-08-31T10:00:00",
    }


def test_simulation_is_marked_everywhere() -> None:
    fleet = Fleet((at("ollama", OLLAMA, GPT_OSS, server={"is_simulated": True}),))
    assert json.loads(views.render_health(fleet, "ollama", NOW, MONOTONIC, full=False)[1])["simulated"] is True
    assert json.loads(views.render_models(fleet, NOW))["models"][0]["simulated"] is True
    assert json.loads(views.render_servers(fleet, {}, NOW, MONOTONIC))["servers"][0]["simulated"] is True
    assert json.loads(views.render_info("0.1.0", NOW, is_simulated=True))["simulated"] is True


def test_models_have_the_documents_shape() -> None:
    data = json.loads(views.render_models(Fleet((at("ollama", OLLAMA, BGE),)), NOW))
    document = {"name": "bge-m3", "size": "1.5GB", "parameters": "1024", "template": "embedding"}
    assert data["models"][0].items() >= document.items()
    assert (data["status"], data["total_count"], data["timestamp"]) == ("success", 1, "2025-08-31T10:00:00")
    assert data["models"][0]["level"] is None


def test_each_model_is_listed_once_with_all_its_servers() -> None:
    cold = Model("gpt-oss:20b", 13_800_000_000, "20.9B")
    fleet = Fleet(
        (
            at("ollama", OLLAMA, cold),
            at("ollama", "http://gpu:11434", GPT_OSS, name="gpu"),
            at("ollama", "http://gone:11434", Model("lost"), name="gone", state=State.DOWN),
            at("vllm", "http://localhost:8000", Model("meta-llama/Llama-3.1-8B")),
        )
    )
    data = json.loads(views.render_models(fleet, NOW))
    assert [model["name"] for model in data["models"]] == ["gpt-oss:20b"]
    expected = {
        "size": "13.8GB",
        "parameters": "20.9B",
        "template": "chat",
        "servers": ["ollama", "gpu"],
        "loaded": True,
        "context_length": 131072,
        "level": "moderate",
    }
    assert data["models"][0].items() >= expected.items()


def test_without_an_ollama_the_models_of_other_servers_are_listed() -> None:
    agent = Model("victoria", capabilities=frozenset({"agent", "completion"}))
    fleet = Fleet((at("llamacpp", "http://box:8080", Model("tiny")), at("victoria", "http://v:8010", agent)))
    data = json.loads(views.render_models(fleet, NOW))
    assert [(model["name"], model["provider"]) for model in data["models"]] == [("tiny", "llamacpp")]


@pytest.mark.parametrize(
    ("model", "size", "level"),
    [
        (Model("gemma3:1b", 815_000_000), "0.8GB", "trivial"),
        (Model("qwen2.5:1.5b"), "", "trivial"),
        (Model("phi3:3b", 99_000_000), "99MB", "simple"),
        (Model("gemma3:12b"), "", "moderate"),
        (Model("llama3.3:70b", 42_520_413_916), "42.5GB", "complex"),
        (Model("a", parameters="494.03M"), "", "trivial"),
        (Model("mixtral", 26_000_000_000), "26.0GB", "moderate"),
        (Model("nomic-embed-text", 274_302_450), "0.3GB", None),
        (Model("a", 1), "1MB", None),
        (Model("qwen2.5:32b"), "", "moderate"),
        (Model("qwen2.5-coder:14b"), "", "complex"),
        (Model("a"), "", None),
    ],
)
def test_sizes_are_formatted_for_people_and_determine_the_level(model: Model, size: str, level: str | None) -> None:
    data = json.loads(views.render_models(Fleet((at("ollama", OLLAMA, model),)), NOW))["models"][0]
    assert (data["size"], data["level"]) == (size, level)


def test_servers_are_listed_with_their_activity_and_without_credentials() -> None:
    fleet = Fleet(
        (
            at(
                "ollama",
                "http://user:secret@localhost:11434",
                BGE,
                GPT_OSS,
                name="primary",
                server={"priority": Priority.PRIMARY, "api_key": "sk-hidden"},
                response_time=0.045,
                checked_at=999.0,
                slots=4,
                version="0.33.0",
            ),
            down("ollama", "http://gpu:11434", name="gpu"),
        )
    )
    body = views.render_servers(fleet, {"primary": 3}, NOW, MONOTONIC)
    data = json.loads(body)
    assert data["servers"][0] == {
        "name": "primary",
        "url": "http://localhost:11434",
        "kind": "ollama",
        "priority": "PRIMARY",
        "state": "up",
        "models": ["bge-m3", "gpt-oss:20b"],
        "loaded_models": ["gpt-oss:20b"],
        "response_time_ms": 45.0,
        "last_check": "2025-08-31T09:59:59",
        "running": 3,
        "waiting": 0,
        "slots": 4,
        "version": "0.33.0",
        "configured": True,
        "last_error": None,
    }
    gone = {"state": "down", "priority": "SECONDARY", "response_time_ms": None, "last_error": "connection refused"}
    assert data["servers"][1].items() >= gone.items()
    assert (data["total"], data["available"]) == (2, 1)
    assert b"secret" not in body
    assert b"hidden" not in body


def test_the_front_page_describes_the_gateway() -> None:
    data = json.loads(views.render_info("0.1.0", NOW))
    assert data.keys() == {"service", "version", "description", "endpoints", "timestamp"}
    assert data["version"] == "0.1.0"
    assert data["endpoints"].keys() >= {"/health", "/models", "/chat", "/stats"}
