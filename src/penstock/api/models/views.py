"""How the service API draws models: sizes as people write them, and the level of question that each is for."""

import re
from collections.abc import Iterable
from typing import Any

from penstock.domain.fleet import Model, ServerStatus

LEVELS = ((2.0, "trivial"), (7.0, "simple"), (30.0, "moderate"), (float("inf"), "complex"))
"""Billions of parameters below which a model is for questions of that level."""

BYTES_PER_PARAMETER = 0.6
"""Of a file with 4-bit weights, the usual form: what tells a model's parameters where nothing else does."""

_BILLIONS = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?)\s*([bm])(?![a-z])", re.IGNORECASE)
_EMBEDDERS = re.compile(r"embed|bge|minilm|\be5\b|\bgte\b", re.IGNORECASE)


def display_name(name: str) -> str:
    """A name as people say it: without `:latest`."""
    return name.removesuffix(":latest")


def format_size(amount: int) -> str:
    """Bytes as `1.5GB` (a billion bytes a GB), below a tenth of that as `45MB`; "" for 0: not known."""
    if amount <= 0:
        return ""
    return f"{amount / 1e9:.1f}GB" if amount >= 1e8 else f"{max(1, round(amount / 1e6))}MB"


def is_embedding_model(model: Model) -> bool:
    """Whether a model makes vectors and no text."""
    if model.capabilities:
        return "embedding" in model.capabilities and "completion" not in model.capabilities
    return bool(_EMBEDDERS.search(model.name))


def level(model: Model) -> str | None:
    """The level of question that a model is for; None for one that answers none, or whose size nothing tells."""
    billions = _billions(model.parameters) or _billions(model.name) or model.size / BYTES_PER_PARAMETER / 1e9
    if is_embedding_model(model) or not billions:
        return None
    return next(name for below, name in LEVELS if billions < below)


def build_model_entries(statuses: Iterable[ServerStatus]) -> list[dict[str, Any]]:
    """Each model once, agents left out, over the servers given: loaded where any has it loaded."""
    found: dict[str, list[tuple[Model, ServerStatus]]] = {}
    for status in statuses:
        for model in status.models:
            if "agent" in model.capabilities:
                continue
            found.setdefault(display_name(model.name), []).append((model, status))
    return [_build_model_entry(name, places) for name, places in sorted(found.items())]


def _build_model_entry(name: str, places: list[tuple[Model, ServerStatus]]) -> dict[str, Any]:
    model = places[0][0]
    vectors = is_embedding_model(model)
    drawn: dict[str, Any] = {
        "name": name,
        "size": format_size(model.size),
        "parameters": str(model.embedding_length or "") if vectors else model.parameters,
        "template": "embedding" if vectors else "chat",
        "quantization": model.quantization,
        "provider": places[0][1].server.kind,
        "servers": [status.server.name for _, status in places],
        "loaded": any(each.is_loaded for each, _ in places),
        "context_length": max(each.context_length for each, _ in places) or None,
        "level": level(model),
    }
    return drawn | ({"simulated": True} if all(status.server.is_simulated for _, status in places) else {})


def _billions(text: str) -> float:
    told = _BILLIONS.search(text)
    if not told:
        return 0.0
    return float(told[1]) / (1000 if told[2] in "mM" else 1)
