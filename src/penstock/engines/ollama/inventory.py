"""Probe of an Ollama server: its models, which are loaded, and what each can do."""

from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from penstock.domain.errors import UpstreamGarbage
from penstock.domain.fleet import Inventory, Model
from penstock.domain.unicode_repair import repair_unicode
from penstock.engines.base import FetchRequest, FetchResponse
from penstock.engines.error_messages import as_upstream_error
from penstock.engines.json_fields import DECODE_ERRORS, as_object, as_text, decode_object
from penstock.engines.ollama.errors import parse_error_response

_MAX_SHOW_REQUESTS = 64  # in one probe
_EMBEDDING_FAMILIES = ("bert", "nomic-bert", "jina-bert")


def inspect_server(known_models: tuple[Model, ...], title: str) -> Generator[FetchRequest, FetchResponse, Inventory]:
    """Read the models, the loaded ones and the version, then the details of each model.

    Versions from 0.30 list the details; those of older versions take one request per model, and are copied from
    `known_models` where the digest is the same. Raises UpstreamGarbage when the server is not Ollama, UpstreamError
    when it answers with an error.
    """
    models = _parse_listing((yield FetchRequest("/api/tags")), title)
    loaded = _parse_entries((yield FetchRequest("/api/ps", optional=True)))
    version = _decode_response((yield FetchRequest("/api/version", optional=True)))
    known = {(model.name, model.digest): model for model in known_models}
    requests = 0
    for index, model in enumerate(models):
        if model.capabilities and model.context_length:
            continue
        previous = known.get((model.name, model.digest))
        if previous is not None and previous.capabilities:
            models[index] = _copy_details(model, previous)
        elif requests < _MAX_SHOW_REQUESTS:
            requests += 1
            body = msgspec.json.encode({"model": model.name})
            details = yield FetchRequest("/api/show", "POST", body, optional=True)
            if details.status == 200:
                models[index] = _add_details(model, _decode_response(details))
    return Inventory(
        models=tuple(_add_load_state(model, loaded) for model in models),
        version=as_text(version.get("version")),
    )


def _parse_listing(fetched: FetchResponse, title: str) -> list[Model]:
    if fetched.status != 200:
        raise as_upstream_error(parse_error_response(fetched.status, fetched.body, None, title), title)
    entries = _decode_entries(fetched)
    if entries is None:
        return []
    if not isinstance(entries, list):
        raise UpstreamGarbage(
            f"The server at this address is not {title}: its /api/tags has no list of models. Check the address."
        )
    models: dict[str, Model] = {}
    for entry in entries:
        fields = {"name": entry} if isinstance(entry, str) else entry
        model = _build_model(fields) if isinstance(fields, dict) else None
        if model is not None and model.name:
            models.setdefault(model.name, model)
    return list(models.values())


def _decode_entries(fetched: FetchResponse) -> object:
    """Return the list of models; some servers that imitate Ollama send a bare one."""
    try:
        value = msgspec.json.decode(repair_unicode(fetched.body))
    except DECODE_ERRORS:
        return "invalid"
    return value if isinstance(value, list) and value else as_object(value).get("models", "missing")


def _build_model(entry: Mapping[str, Any]) -> Model:
    name = as_text(entry.get("name")) or as_text(entry.get("model"))
    other_name = as_text(entry.get("model"))
    details = as_object(entry.get("details"))
    return Model(
        name,
        size=_as_count(entry.get("size")),
        parameters=as_text(details.get("parameter_size")),
        quantization=as_text(details.get("quantization_level")),
        family=as_text(details.get("family")),
        format=as_text(details.get("format")),
        context_length=_as_count(details.get("context_length")),
        embedding_length=_as_count(details.get("embedding_length")),
        capabilities=_as_names(entry.get("capabilities")),
        digest=as_text(entry.get("digest")).removeprefix("sha256:"),
        modified_at=as_text(entry.get("modified_at")),
        aliases=(other_name,) if other_name not in ("", name) else (),
    )


def _copy_details(model: Model, previous: Model) -> Model:
    return replace(
        model,
        context_length=model.context_length or previous.context_length,
        embedding_length=model.embedding_length or previous.embedding_length,
        capabilities=model.capabilities or previous.capabilities,
    )


def _add_details(model: Model, details: Mapping[str, Any]) -> Model:
    """Add the details of `/api/show`. Before 0.6.4 it lists no capabilities; they follow from the family then."""
    info = as_object(details.get("model_info"))
    architecture = as_text(info.get("general.architecture"))
    likely = "embedding" if (architecture or model.family) in _EMBEDDING_FAMILIES else "completion"
    return replace(
        model,
        context_length=model.context_length or _as_count(info.get(f"{architecture}.context_length")),
        embedding_length=model.embedding_length or _as_count(info.get(f"{architecture}.embedding_length")),
        capabilities=model.capabilities or _as_names(details.get("capabilities")) or frozenset({likely}),
    )


def _add_load_state(model: Model, loaded: list[Mapping[str, Any]]) -> Model:
    for entry in loaded:
        if model.name in (as_text(entry.get("name")), as_text(entry.get("model"))):
            return replace(
                model,
                is_loaded=True,
                size_vram=_as_count(entry.get("size_vram")),
                expires_at=as_text(entry.get("expires_at")),
                loaded_context=_as_count(entry.get("context_length")),
                loaded_size=_as_count(entry.get("size")),
            )
    return model


def _parse_entries(fetched: FetchResponse) -> list[Mapping[str, Any]]:
    entries = _decode_response(fetched).get("models")
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _decode_response(fetched: FetchResponse) -> Mapping[str, Any]:
    return decode_object(fetched.body) if fetched.status == 200 else {}


def _as_count(value: object) -> int:
    """Return `value` if it is a positive number that fits 63 bits, else 0."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 2**63:
        return 0
    return int(value)


def _as_names(value: object) -> frozenset[str]:
    return frozenset(name for name in value if isinstance(name, str)) if isinstance(value, list) else frozenset()
