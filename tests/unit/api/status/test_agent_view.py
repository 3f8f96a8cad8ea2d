"""Response bodies of agent chat about its servers and models."""

import json
from typing import Any

from penstock.api.status import agent_view
from penstock.domain.fleet import Fleet, Model, Server, ServerStatus, State


def server(kind: str, state: State, **more: Any) -> ServerStatus:
    return ServerStatus(Server(kind, kind, (f"http://user:pw@{kind}.local:1",), setting=f"{kind}_URL"), state, **more)


def test_status_has_each_kind_of_the_chain_and_no_other() -> None:
    fleet = Fleet(
        (
            server("ollama", State.UP),
            server("victoria", State.UP, models=(Model("victoria"),), response_time=0.0421),
            server("mlx", State.DOWN, error="connection refused"),
        )
    )
    body = json.loads(agent_view.render_status(fleet))
    assert body["victoria"] == {
        "status": "healthy",
        "url": "http://victoria.local:1",
        "models": ["victoria"],
        "response_time_ms": 42.1,
    }
    assert body["mlx"]["status"] == "unhealthy"
    assert body["mlx"]["error"] == "connection refused"
    assert "mlx_URL" in body["mlx"]["what_to_do"]
    assert body.keys() == {"victoria", "mlx"}
    assert b"pw" not in agent_view.render_status(fleet)


def test_the_best_server_of_a_kind_is_listed_and_a_missing_kind_is_disabled() -> None:
    fleet = Fleet((server("mlx", State.DOWN), server("mlx", State.LOADING)))
    body = json.loads(agent_view.render_status(fleet))
    assert (body["victoria"], body["mlx"]["status"]) == ({"status": "disabled", "url": None}, "degraded")


def test_models_are_those_of_mlx() -> None:
    fleet = Fleet(
        (
            server("ollama", State.UP, models=(Model("llama3.1:8b"),)),
            server("victoria", State.UP, models=(Model("victoria", capabilities=frozenset({"agent"})),)),
            server("mlx", State.UP, models=(Model("qwen2.5:7b", size=4_700_000_000, is_loaded=True),)),
        )
    )
    body = json.loads(agent_view.render_models(fleet))
    assert body["total_count"] == 1
    assert body["models"][0].items() >= {"name": "qwen2.5:7b", "size": "4.7GB", "loaded": True}.items()
    assert json.loads(agent_view.render_models(Fleet())) == {"models": [], "total_count": 0}
