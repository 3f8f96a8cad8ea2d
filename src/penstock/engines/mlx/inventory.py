"""Looks at an MLX API server: its health in its own four words, and its models."""

from collections.abc import Generator, Mapping
from typing import Any

import msgspec

from penstock.domain.errors import UpstreamError, UpstreamGarbage
from penstock.domain.fleet import Inventory, Model, State
from penstock.engines.base import FetchRequest, FetchResponse
from penstock.engines.mlx.errors import read_failure

_WELL = frozenset({"healthy", "degraded", "ok", ""})


def look(title: str) -> Generator[FetchRequest, FetchResponse, Inventory]:
    """Health first: `healthy` and `degraded` count as up, `warning` and `critical` do not. Then what it has.

    The status of the health response is not looked at: a server that is not well may say so with 503.
    """
    health = yield FetchRequest("/health", optional=True)
    feeling = _text(_object(health).get("status")).lower()
    state = State.UP if feeling in _WELL else State.DOWN
    listed = yield FetchRequest("/api/tags")
    if listed.status != 200:
        error = read_failure(listed.status, listed.body, None, title)
        raise error if isinstance(error, UpstreamError) else UpstreamError(f"{title}: {error.message}")
    entries = _object(listed).get("models")
    if not isinstance(entries, list):
        raise UpstreamGarbage(f"This does not answer as an {title} does (/api/tags has no list of models).")
    models: dict[str, Model] = {}
    for entry in entries:
        model = _model(entry)
        if model.name:
            models.setdefault(model.name, model)
    return Inventory(
        models=tuple(models.values()),
        state=state,
        version=_text(_object(health).get("version")),
        detail=f"health: {feeling}" if feeling else "",
    )


def _model(entry: object) -> Model:
    """One of its models; a plain name does as well."""
    if isinstance(entry, str):
        return Model(entry, capabilities=frozenset({"completion"}))
    fields = entry if isinstance(entry, dict) else {}
    details = fields.get("details")
    details = details if isinstance(details, dict) else {}
    size = fields.get("size")
    return Model(
        _text(fields.get("name")) or _text(fields.get("model")),
        size=size if isinstance(size, int) and size > 0 else 0,
        parameters=_text(details.get("parameter_size")),
        quantization=_text(details.get("quantization_level")),
        family=_text(details.get("family")),
        format=_text(details.get("format")),
        capabilities=frozenset({"completion"}),
        digest=_text(fields.get("digest")).removeprefix("sha256:"),
        modified_at=_text(fields.get("modified_at")),
    )


def _object(fetched: FetchResponse) -> Mapping[str, Any]:
    try:
        value = msgspec.json.decode(fetched.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
