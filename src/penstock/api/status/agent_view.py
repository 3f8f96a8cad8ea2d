"""Response bodies of agent chat about its servers and models."""

from typing import Any

import msgspec

from penstock.api.models.views import build_model_entries
from penstock.api.status.views import choose_address, render_problem
from penstock.domain.fleet import AGENT_CHAIN, Fleet, ServerStatus, State


def render_status(fleet: Fleet) -> bytes:
    """Render `GET /api/chat/status`: state and address of each kind of server in the chain."""
    return msgspec.json.encode({kind: _render_kind(fleet, kind) for kind in AGENT_CHAIN})


def render_models(fleet: Fleet) -> bytes:
    """Render `GET /api/chat/models`: the models of the fallback, MLX; the agent chooses its own."""
    fallback = AGENT_CHAIN[-1]
    entries = build_model_entries(each for each in fleet.statuses if each.server.kind == fallback and each.is_up)
    return msgspec.json.encode({"models": entries, "total_count": len(entries)})


def _render_kind(fleet: Fleet, kind: str) -> dict[str, Any]:
    statuses = [each for each in fleet.statuses if each.server.kind == kind]
    if not statuses:
        return {"status": "disabled", "url": None}
    best = min(statuses, key=_rank_readiness)
    entry: dict[str, Any] = {
        "status": ("healthy", "degraded", "unhealthy")[_rank_readiness(best)],
        "url": choose_address(best),
        "models": [model.name for model in best.models],
        "response_time_ms": round(best.response_time * 1000, 1) if best.is_up else None,
    }
    if not best.is_up:
        problem = render_problem(best)
        entry |= {"error": problem["error"], "what_to_do": problem["what_to_do"]}
    return entry | ({"simulated": True} if best.server.is_simulated else {})


def _rank_readiness(status: ServerStatus) -> int:
    """Return 0 for a server that is ready, 1 for one that is loading, 2 for any other."""
    return {State.UP: 0, State.LOADING: 1}.get(status.state, 2)
