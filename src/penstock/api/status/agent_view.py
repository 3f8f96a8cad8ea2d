"""Agent chat's two pages about itself: the servers of its chain, and the models of its reserve."""

from typing import Any

import msgspec

from penstock.api.models.views import build_model_entries
from penstock.api.status.views import choose_address, render_problem
from penstock.domain.fleet import AGENT_CHAIN, Fleet, ServerStatus, State


def render_status(fleet: Fleet) -> bytes:
    """`GET /api/chat/status`: of each link of the chain whether it can be asked, and where it is."""
    return msgspec.json.encode({kind: _render_link(fleet, kind) for kind in AGENT_CHAIN})


def render_models(fleet: Fleet) -> bytes:
    """`GET /api/chat/models`: the models that MLX has; the agent chooses its own."""
    reserve = AGENT_CHAIN[-1]
    found = build_model_entries(each for each in fleet.statuses if each.server.kind == reserve and each.is_up)
    return msgspec.json.encode({"models": found, "total_count": len(found)})


def _render_link(fleet: Fleet, kind: str) -> dict[str, Any]:
    mine = [each for each in fleet.statuses if each.server.kind == kind]
    if not mine:
        return {"status": "disabled", "url": None}
    best = min(mine, key=_rank_readiness)
    drawn: dict[str, Any] = {
        "status": ("healthy", "degraded", "unhealthy")[_rank_readiness(best)],
        "url": choose_address(best),
        "models": [model.name for model in best.models],
        "response_time_ms": round(best.response_time * 1000, 1) if best.is_up else None,
    }
    if not best.is_up:
        told = render_problem(best)
        drawn |= {"error": told["error"], "what_to_do": told["what_to_do"]}
    return drawn | ({"simulated": True} if best.server.is_simulated else {})


def _rank_readiness(each: ServerStatus) -> int:
    """0: can be asked; 1: soon; 2: cannot."""
    return {State.UP: 0, State.LOADING: 1}.get(each.state, 2)
