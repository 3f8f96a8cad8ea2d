"""Looks at an Ollama server: what it has, what is loaded, what each model can do."""

from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from penstock.domain.errors import UpstreamError, UpstreamGarbage
from penstock.domain.fleet import Inventory, Model
from penstock.engines.base import FetchRequest, FetchResponse
from penstock.engines.ollama.errors import read_failure

_MOST_SHOWN = 64  # models asked for one by one in one look
_EMBEDDERS = ("bert", "nomic-bert", "jina-bert")


def look(known: tuple[Model, ...], title: str) -> Generator[FetchRequest, FetchResponse, Inventory]:
    """Lists, then what is loaded and the version, then one by one what versions before 0.30 do not list.

    Raises UpstreamGarbage when what answers is no Ollama, UpstreamError when it answers with an error.
    """
    listed = yield FetchRequest("/api/tags")
    models = _listed(listed, title)
    loaded = _entries((yield FetchRequest("/api/ps", optional=True)))
    version = _object((yield FetchRequest("/api/version", optional=True)))
    before = {(model.name, model.digest): model for model in known}
    shown = 0
    for index, model in enumerate(models):
        if model.capabilities and model.context_length:
            continue
        earlier = before.get((model.name, model.digest))
        if earlier is not None and earlier.capabilities:
            models[index] = _remembered(model, earlier)
        elif shown < _MOST_SHOWN:
            shown += 1
            body = msgspec.json.encode({"model": model.name})
            told = yield FetchRequest("/api/show", "POST", body, optional=True)
            if told.status == 200:
                models[index] = _shown(model, _object(told))
    return Inventory(
        models=tuple(_running(model, loaded) for model in models),
        version=_text(version.get("version")),
    )


def _listed(fetched: FetchResponse, title: str) -> list[Model]:
    if fetched.status != 200:
        error = read_failure(fetched.status, fetched.body, None, title)
        raise error if isinstance(error, UpstreamError) else UpstreamError(f"{title}: {error.message}")
    entries = _object(fetched).get("models", "none")
    if entries is None:
        return []
    if not isinstance(entries, list):
        raise UpstreamGarbage(f"This does not answer as {title} does (/api/tags has no list of models).")
    models: dict[str, Model] = {}
    for entry in entries:
        model = _model(entry) if isinstance(entry, dict) else None
        if model is not None and model.name:
            models.setdefault(model.name, model)
    return list(models.values())


def _model(entry: Mapping[str, Any]) -> Model:
    name = _text(entry.get("name")) or _text(entry.get("model"))
    other = _text(entry.get("model"))
    details = _mapping(entry.get("details"))
    return Model(
        name,
        size=_count(entry.get("size")),
        parameters=_text(details.get("parameter_size")),
        quantization=_text(details.get("quantization_level")),
        family=_text(details.get("family")),
        format=_text(details.get("format")),
        context_length=_count(details.get("context_length")),
        embedding_length=_count(details.get("embedding_length")),
        capabilities=_words(entry.get("capabilities")),
        digest=_text(entry.get("digest")).removeprefix("sha256:"),
        modified_at=_text(entry.get("modified_at")),
        aliases=(other,) if other not in ("", name) else (),
    )


def _remembered(model: Model, earlier: Model) -> Model:
    return replace(
        model,
        context_length=model.context_length or earlier.context_length,
        embedding_length=model.embedding_length or earlier.embedding_length,
        capabilities=model.capabilities or earlier.capabilities,
    )


def _shown(model: Model, told: Mapping[str, Any]) -> Model:
    """With what `show` tells. Before 0.6.4 it told no capabilities: then the family says which kind of model it is."""
    info = _mapping(told.get("model_info"))
    architecture = _text(info.get("general.architecture"))
    guessed = "embedding" if (architecture or model.family) in _EMBEDDERS else "completion"
    return replace(
        model,
        context_length=model.context_length or _count(info.get(f"{architecture}.context_length")),
        embedding_length=model.embedding_length or _count(info.get(f"{architecture}.embedding_length")),
        capabilities=model.capabilities or _words(told.get("capabilities")) or frozenset({guessed}),
    )


def _running(model: Model, loaded: list[Mapping[str, Any]]) -> Model:
    for entry in loaded:
        if model.name in (_text(entry.get("name")), _text(entry.get("model"))):
            expires = _text(entry.get("expires_at"))
            return replace(
                model,
                loaded=True,
                size_vram=_count(entry.get("size_vram")),
                expires_at=expires,
                loaded_context=_count(entry.get("context_length")),
            )
    return model


def _entries(fetched: FetchResponse) -> list[Mapping[str, Any]]:
    entries = _object(fetched).get("models")
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _object(fetched: FetchResponse) -> Mapping[str, Any]:
    if fetched.status != 200:
        return {}
    try:
        return _mapping(msgspec.json.decode(fetched.body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _count(value: object) -> int:
    """A count that may be anything; what is none is 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 2**63:
        return 0
    return int(value)


def _words(value: object) -> frozenset[str]:
    return frozenset(word for word in value if isinstance(word, str)) if isinstance(value, list) else frozenset()
