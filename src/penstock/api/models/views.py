"""Entries of models in the service API: sizes in readable units, and the level of request that each is for."""

from collections.abc import Iterable
from typing import Any

from penstock.domain.fleet import Model, ServerStatus
from penstock.gateway.routing.model_profile import name_level, profile_model


def display_name(name: str) -> str:
    """Return a model's name without `:latest`."""
    return name.removesuffix(":latest")


def format_size(amount: int) -> str:
    """Format bytes as `1.5GB` (10⁹ bytes), below 0.1 GB as `45MB`; return "" for 0, an unknown size."""
    if amount <= 0:
        return ""
    return f"{amount / 1e9:.1f}GB" if amount >= 1e8 else f"{max(1, round(amount / 1e6))}MB"


def is_embedding_model(model: Model) -> bool:
    """Return True when a model produces embeddings and no text."""
    return "embedding" in profile_model(model).strengths


def build_model_entries(statuses: Iterable[ServerStatus]) -> list[dict[str, Any]]:
    """Build an entry for each model of these servers, agents excepted; loaded means loaded on any server."""
    found: dict[str, list[tuple[Model, ServerStatus]]] = {}
    for status in statuses:
        for model in status.models:
            if "agent" in model.capabilities:
                continue
            found.setdefault(display_name(model.name), []).append((model, status))
    return [_build_model_entry(name, copies) for name, copies in sorted(found.items())]


def _build_model_entry(name: str, copies: list[tuple[Model, ServerStatus]]) -> dict[str, Any]:
    model = copies[0][0]
    is_embedding = is_embedding_model(model)
    entry: dict[str, Any] = {
        "name": name,
        "size": format_size(model.size),
        "parameters": str(model.embedding_length or "") if is_embedding else model.parameters,
        "template": "embedding" if is_embedding else "chat",
        "quantization": model.quantization,
        "provider": copies[0][1].server.kind,
        "servers": [status.server.name for _, status in copies],
        "loaded": any(each.is_loaded for each, _ in copies),
        "context_length": max(each.context_length for each, _ in copies) or None,
        "level": name_level(model),
    }
    return entry | ({"simulated": True} if all(status.server.is_simulated for _, status in copies) else {})
