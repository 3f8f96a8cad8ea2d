"""Probe of an MLX API server: its health and its models."""

from collections.abc import Generator

from penstock.domain.errors import UpstreamGarbage
from penstock.domain.fleet import Inventory, Model, State
from penstock.engines.base import FetchRequest, FetchResponse
from penstock.engines.error_messages import as_upstream_error
from penstock.engines.json_fields import as_object, as_text, decode_object
from penstock.engines.mlx.errors import parse_error_response

_UP_STATUSES = frozenset({"healthy", "degraded", "ok", ""})


def inspect_server(title: str) -> Generator[FetchRequest, FetchResponse, Inventory]:
    """Read the health, then the models: `healthy` and `degraded` are up, `warning` and `critical` are not.

    The HTTP status of the health response is ignored, because an unhealthy server may answer 503.
    """
    health = decode_object((yield FetchRequest("/health", optional=True)).body)
    status = as_text(health.get("status")).lower()
    listing = yield FetchRequest("/api/tags")
    if listing.status != 200:
        raise as_upstream_error(parse_error_response(listing.status, listing.body, None, title), title)
    entries = decode_object(listing.body).get("models", "missing")
    if entries is None:
        entries = []
    if not isinstance(entries, list):
        raise UpstreamGarbage(
            f"The server at this address is not an {title}: its /api/tags has no list of models. Check the address."
        )
    models: dict[str, Model] = {}
    for entry in entries:
        model = _build_model(entry)
        if model.name:
            models.setdefault(model.name, model)
    return Inventory(
        models=tuple(models.values()),
        state=State.UP if status in _UP_STATUSES else State.DOWN,
        version=as_text(health.get("version")),
        detail=f"health: {status}" if status else "",
    )


def _build_model(entry: object) -> Model:
    """Build a model from its entry, which may be a name only."""
    if isinstance(entry, str):
        return Model(entry, capabilities=frozenset({"completion"}))
    fields = as_object(entry)
    details = as_object(fields.get("details"))
    size = fields.get("size")
    return Model(
        as_text(fields.get("name")) or as_text(fields.get("model")),
        size=size if isinstance(size, int) and size > 0 else 0,
        parameters=as_text(details.get("parameter_size")),
        quantization=as_text(details.get("quantization_level")),
        family=as_text(details.get("family")),
        format=as_text(details.get("format")),
        capabilities=frozenset({"completion"}),
        digest=as_text(fields.get("digest")).removeprefix("sha256:"),
        modified_at=as_text(fields.get("modified_at")),
    )
