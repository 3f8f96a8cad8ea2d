"""Response bodies of Ollama's API for models, rendered from the fleet with one entry per model.

Models of other engines follow Ollama's rules too: a tag, a digest of 64 hex digits, a modification time.
Source: the structs and their order in Ollama's `api/types.go`.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeAlias

import msgspec

from penstock.domain.fleet import Fleet, Model

# Ollama's client shows these as "Never" and "Forever": Go's zero time, and more than 20 years ahead. All times have a
# fraction, because a decoder of a client drops a whole list for one time without.
_NEVER = "0001-01-01T00:00:00.000Z"
_FOREVER = "2318-11-28T12:00:00.000Z"
_TIME_WITHOUT_FRACTION = re.compile(r"(T\d\d:\d\d:\d\d)(?!\.)")
_BEGINNING = datetime.min.replace(tzinfo=UTC)
_CAPABILITY_ORDER = ("completion", "tools", "insert", "vision", "embedding", "thinking", "image", "audio")
# Where an engine reports no capabilities, clients may try tools; the engine refuses what a model cannot do.
_ASSUMED_CAPABILITIES = frozenset({"completion", "tools"})
_PARAMETERS = re.compile(r"([\d.]+)\s*([KMBT])", re.IGNORECASE)
_POWERS = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


_Info: TypeAlias = str | int | tuple[str, ...] | None


class _Details(msgspec.Struct):
    parent_model: str
    format: str
    family: str
    families: tuple[str, ...] | None
    parameter_size: str
    quantization_level: str


class _ListedDetails(_Details, omit_defaults=True):
    context_length: int = 0
    embedding_length: int = 0


class _TagsEntry(msgspec.Struct, omit_defaults=True):
    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: _ListedDetails
    capabilities: tuple[str, ...] = ()


class _PsEntry(msgspec.Struct):
    name: str
    model: str
    size: int
    digest: str
    details: _Details
    expires_at: str
    size_vram: int
    context_length: int


class _ShowResponse(msgspec.Struct, omit_defaults=True, kw_only=True):
    modelfile: str
    template: str = ""
    details: _Details
    model_info: dict[str, _Info]
    capabilities: tuple[str, ...] = ()
    modified_at: str


def render_tags(fleet: Fleet, virtual: tuple[Model, ...] = ()) -> bytes:
    """Render `/api/tags`: every model of servers that are up, newest first, then names that are no model's own."""
    models = sorted(_merge_models(fleet), key=lambda model: _parse_time(model.modified_at), reverse=True)
    models += [replace(model, name=add_tag(model.name), is_loaded=False) for model in virtual]
    return msgspec.json.encode({"models": [_build_listed(model) for model in models]})


def render_ps(fleet: Fleet) -> bytes:
    """Render `/api/ps`: the models that are loaded on any server, latest expiry first."""
    models = sorted(
        _merge_models(fleet), key=lambda model: _parse_time(_valid_time_or(model.expires_at, _FOREVER)), reverse=True
    )
    return msgspec.json.encode({"models": [_build_loaded(model) for model in models if model.is_loaded]})


def render_version(text: str) -> bytes:
    """Render `/api/version`."""
    return msgspec.json.encode({"version": text})


def render_show(model: Model, verbose: bool) -> bytes:
    """Render `/api/show` for a model that is on no Ollama server; as there, lists are null unless `verbose`."""
    architecture = model.family or "unknown"
    info: dict[str, _Info] = {"general.architecture": architecture}
    if model.aliases:
        info["general.aliases"] = model.aliases if verbose else None
    if count := _count_parameters(model.parameters):
        info["general.parameter_count"] = count
    if model.context_length:
        info[f"{architecture}.context_length"] = model.context_length
    if model.embedding_length:
        info[f"{architecture}.embedding_length"] = model.embedding_length
    return msgspec.json.encode(
        _ShowResponse(
            modelfile=f"FROM {model.name}\n",
            details=_build_details(model),
            model_info=dict(sorted(info.items())),
            modified_at=_valid_time_or(model.modified_at, _NEVER),
            template=model.template,
            capabilities=_list_capabilities(model),
        )
    )


def add_tag(name: str) -> str:
    """Return a model's name with its tag, as Ollama always shows it."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def _merge_models(fleet: Fleet) -> Iterable[Model]:
    """Return every model once; of several servers that have it, each fills in what the others do not report."""
    models: dict[str, Model] = {}
    for status in fleet.statuses:
        if not status.is_up:
            continue
        for model in status.models:
            if "agent" in model.capabilities:
                continue
            name = add_tag(model.name)
            seen = models.get(name.lower())
            models[name.lower()] = replace(model, name=name) if seen is None else _merge_pair(seen, model)
    return models.values()


def _merge_pair(one: Model, other: Model) -> Model:
    latest = max(one.expires_at, other.expires_at, key=_parse_time) if one.is_loaded and other.is_loaded else ""
    return replace(
        one,
        size=one.size or other.size,
        parameters=one.parameters or other.parameters,
        quantization=one.quantization or other.quantization,
        family=one.family or other.family,
        format=one.format or other.format,
        context_length=one.context_length or other.context_length,
        embedding_length=one.embedding_length or other.embedding_length,
        capabilities=one.capabilities or other.capabilities,
        digest=one.digest or other.digest,
        modified_at=max(one.modified_at, other.modified_at, key=_parse_time),
        is_loaded=one.is_loaded or other.is_loaded,
        size_vram=max(one.size_vram, other.size_vram),
        loaded_context=max(one.loaded_context, other.loaded_context),
        loaded_size=max(one.loaded_size, other.loaded_size),
        expires_at=latest or (one.expires_at if one.is_loaded else other.expires_at),
    )


def _build_listed(model: Model) -> _TagsEntry:
    return _TagsEntry(
        name=model.name,
        model=model.name,
        modified_at=_valid_time_or(model.modified_at, _NEVER),
        size=model.size,
        digest=_find_digest(model),
        details=_ListedDetails(
            parent_model="",
            format=model.format,
            family=model.family,
            families=(model.family,) if model.family else None,
            parameter_size=model.parameters,
            quantization_level=model.quantization,
            context_length=model.context_length,
            embedding_length=model.embedding_length,
        ),
        capabilities=_list_capabilities(model),
    )


def _build_loaded(model: Model) -> _PsEntry:
    return _PsEntry(
        name=model.name,
        model=model.name,
        size=model.loaded_size or max(model.size, model.size_vram),
        digest=_find_digest(model),
        details=_build_details(model),
        expires_at=_valid_time_or(model.expires_at, _FOREVER),
        size_vram=model.size_vram,
        context_length=model.loaded_context or model.context_length,
    )


def _build_details(model: Model) -> _Details:
    families = (model.family,) if model.family else None
    return _Details("", model.format, model.family, families, model.parameters, model.quantization)


def _find_digest(model: Model) -> str:
    """Return the engine's digest, else one derived from the name, so that it never changes."""
    return model.digest if len(model.digest) >= 12 else hashlib.sha256(model.name.lower().encode()).hexdigest()


def _list_capabilities(model: Model) -> tuple[str, ...]:
    known = model.capabilities or _ASSUMED_CAPABILITIES
    rest = sorted(known.difference(_CAPABILITY_ORDER))
    return (*(capability for capability in _CAPABILITY_ORDER if capability in known), *rest)


def _count_parameters(text: str) -> int:
    match = _PARAMETERS.fullmatch(text.strip())
    try:
        return round(float(match[1]) * _POWERS[match[2].upper()]) if match else 0
    except ValueError:
        return 0


def _valid_time_or(text: str, default: str) -> str:
    """Return a time, with a fraction, if it is valid, else `default`: clients fail on anything else."""
    return _TIME_WITHOUT_FRACTION.sub(r"\1.000", text) if _parse_time(text) != _BEGINNING else default


def _parse_time(text: str) -> datetime:
    """Parse an RFC 3339 time; return the earliest possible time for anything else."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return _BEGINNING
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
