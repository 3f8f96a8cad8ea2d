"""Sampling options and `keep_alive` of Ollama's requests."""

import re
from typing import Any

import msgspec

from penstock.domain.content import Json, Sampling
from penstock.domain.errors import InvalidRequest

_INTEGERS = {"num_predict": "max_tokens", "top_k": "top_k", "seed": "seed"}
_FLOATS = ("temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty", "repeat_penalty")
_DURATION = re.compile(r"[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+")
_DURATION_PART = re.compile(r"(\d+\.?\d*|\.\d+)([^\d.]*)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_number_decoder = msgspec.json.Decoder(float)
_strings_decoder = msgspec.json.Decoder(list[str])


def parse_keep_alive(raw: msgspec.Raw) -> float | None:
    """Return the seconds that a model must stay loaded: negative for ever, None by default. Raises InvalidRequest.

    A number is seconds, a string a Go duration: https://pkg.go.dev/time#ParseDuration
    """
    value = msgspec.json.decode(raw) if len(raw) else None
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        kind = {bool: "bool", dict: "map[string]interface {}", list: "[]interface {}"}[type(value)]
        raise InvalidRequest(f"Unsupported type: '{kind}'", param="keep_alive")
    if not isinstance(value, str):
        return float(value)
    if value.lstrip("+-") == "0":
        return 0.0
    parts = [(float(number), unit.strip()) for number, unit in _DURATION_PART.findall(value)]
    if _DURATION.fullmatch(value):
        seconds = sum(number * _UNITS[unit] for number, unit in parts)
        return -seconds if value.startswith("-") else seconds
    if re.fullmatch(r"[-+]?(?:[\d.]+[a-zµμ]+)*[\d.]*\d\.?", value):
        raise InvalidRequest(f'time: missing unit in duration "{value}"', param="keep_alive")
    unknown = next((unit for _, unit in parts if unit not in _UNITS), "") if value[:1].isdigit() else ""
    if unknown:
        raise InvalidRequest(f'time: unknown unit "{unknown}" in duration "{value}"', param="keep_alive")
    raise InvalidRequest(f'time: invalid duration "{value}"', param="keep_alive")


def parse_options(
    options: dict[str, msgspec.Raw], logprobs: bool, top_logprobs: int | None
) -> tuple[Sampling, tuple[tuple[str, Json], ...]]:
    """Return the sampling parameters, and the options that only Ollama servers support, as (name, JSON)."""
    if top_logprobs is not None and not 0 <= top_logprobs <= 20:
        raise InvalidRequest("top_logprobs must be between 0 and 20", param="top_logprobs")
    sampling: dict[str, Any] = {"logprobs": logprobs, "top_logprobs": top_logprobs}
    others: list[tuple[str, Json]] = []
    for name, raw in options.items():
        if bytes(raw) == b"null":
            continue
        if name in _INTEGERS:
            number = int(_parse_number(name, raw, "integer"))
            # Negative values of these two mean the default: no limit, a random seed.
            is_default = number < 0 and name in ("num_predict", "seed")
            sampling[_INTEGERS[name]] = None if is_default else number
        elif name in _FLOATS:
            sampling[name] = _parse_number(name, raw, "float32")
        elif name == "stop":
            sampling[name] = _parse_stop(raw)
        else:
            others.append((name, bytes(raw)))
    return Sampling(**sampling), tuple(others)


def _parse_number(name: str, raw: msgspec.Raw, go_type: str) -> float:
    try:
        return _number_decoder.decode(raw)
    except msgspec.DecodeError:
        raise InvalidRequest(f'option "{name}" must be of type {go_type}', param=f"options.{name}") from None


def _parse_stop(raw: msgspec.Raw) -> tuple[str, ...]:
    try:
        return tuple(_strings_decoder.decode(raw))
    except msgspec.DecodeError:
        kind = "an array of strings" if bytes(raw)[:1] == b"[" else "array"
        raise InvalidRequest(f'option "stop" must be of type {kind}', param="options.stop") from None
