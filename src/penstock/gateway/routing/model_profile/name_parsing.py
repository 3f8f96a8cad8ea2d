"""Number of parameters of a model, from its parameter count, its name, or the size of its file."""

import re
from dataclasses import dataclass

from penstock.domain.fleet import Model

_UNITS = {"k": 1e-6, "m": 1e-3, "b": 1.0, "t": 1e3}
_TOTAL = re.compile(r"(?<![a-z0-9.])(\d{1,4}(?:\.\d{1,3})?)([mbt])(?![a-z0-9])")
_EXPERTS = re.compile(r"(?<![a-z0-9.])(\d{1,3})x(\d{1,3}(?:\.\d{1,2})?)b(?![a-z0-9])")
_ACTIVE = re.compile(r"(?<![a-z0-9.])a(\d{1,3}(?:\.\d{1,2})?)([mb])(?![a-z0-9])")
_EFFECTIVE = re.compile(r"(?<![a-z0-9.])e(\d{1,2}(?:\.\d)?)b(?![a-z0-9])")
_COUNTED = re.compile(r"\s*(\d{1,6}(?:\.\d{1,6})?)\s*([kmbt])\s*", re.IGNORECASE)

_BYTES_PER_WEIGHT = (
    (re.compile(r"f32|fp32|float32"), 4.0),
    (re.compile(r"bf16|f16|fp16|float16"), 2.0),
    (re.compile(r"q8|fp8|f8|int8|w8a|8-?bit"), 1.06),
    (re.compile(r"q6|6-?bit"), 0.82),
    (re.compile(r"q5|5-?bit"), 0.69),
    (re.compile(r"q4|fp4|int4|awq|gptq|w4a|iq4|4-?bit"), 0.6),
    (re.compile(r"q3|3-?bit"), 0.47),
    (re.compile(r"q2|2-?bit"), 0.37),
    (re.compile(r"q1|1-?bit|1\.58"), 0.23),
)
_DEFAULT_BYTES_PER_WEIGHT = {"gguf": 0.6, "": 0.6}  # Ollama's library and most GGUF files are 4 bits; all else is 16
_MAX_SEPARATE_EXPERTS = 8
MAX_BILLIONS = 100_000.0
"""Larger numbers in a name are not sizes."""


@dataclass(frozen=True, slots=True)
class Size:
    """Billions of parameters, 0.0 if unknown. `active` are those used for each token: all of them in a dense model."""

    total: float
    active: float

    @property
    def dense_equivalent(self) -> float:
        """Size of a dense model as good as this mixture of experts: the geometric mean of active and total."""
        return float((self.total * self.active) ** 0.5)


def normalize_name(name: str) -> str:
    """Normalize a name for the patterns here and in the families: lower case, no folders, one kind of separator.

    >>> plain("hf.co/bartowski/Llama_3.2-3B-Instruct-GGUF:Q4_K_M")
    'llama-3.2-3b-instruct-gguf:q4-k-m'
    """
    parts = [part for part in name.lower().replace("\\", "/").split("/") if part]
    last = parts[-1] if parts else ""
    return "-".join(last.removesuffix(".gguf").replace("_", "-").replace("@", "-").split())


def estimate_size(model: Model, text: str, total: float, active: float) -> Size:
    """Estimate a model's size. `text` is its normalized name; `total` and `active` are defaults of its family.

    The server's parameter count takes precedence over the name, the name over the size of the file. The family's
    `active` is for names that do not show that the model is a mixture of experts.
    """
    experts = _EXPERTS.search(text)
    named_total = _parse_billions(_TOTAL.search(text))
    effective = _EFFECTIVE.search(text)
    named_active = _parse_billions(_ACTIVE.search(text))
    if experts and int(experts[1]) > _MAX_SEPARATE_EXPERTS:
        named_active = named_active or float(experts[2])  # llama4:16x17b names the active size, not that of an expert
    elif experts:
        expert = float(experts[2])
        named_total = int(experts[1]) * expert * 0.83  # attention is shared between experts
        named_active = named_active or 2 * expert * 0.92  # two experts are active
    if effective:
        named_active = float(effective[1])
        named_total = named_total or 1.9 * named_active  # plus per-layer embeddings
    reported_total = parse_parameter_count(model.parameters)
    total = reported_total or named_total or _estimate_from_file_size(model, text) or total
    active = named_active or active or total
    return Size(total, min(active, total) if total else active)


def parse_parameter_count(parameters: str) -> float:
    """Return the billions of a parameter size as servers report it ("8.0B", "999.89M"); 0.0 if it is no number."""
    return _parse_billions(_COUNTED.fullmatch(parameters))


def find_bytes_per_weight(model: Model, text: str) -> float:
    """Return the bytes per weight; 0.0 if neither the server nor the name shows them."""
    for source in (model.quantization.lower(), text):
        for pattern, size in _BYTES_PER_WEIGHT:
            if source and pattern.search(source):
                return size
    return 0.0


def _parse_billions(match: re.Match[str] | None) -> float:
    if match is None:
        return 0.0
    billions = float(match[1]) * _UNITS[match[2].lower()]
    return billions if billions <= MAX_BILLIONS else 0.0


def _estimate_from_file_size(model: Model, text: str) -> float:
    if model.size < 10_000_000:  # a stub or a cloud model's entry, not weights
        return 0.0
    billions = (
        model.size
        / (find_bytes_per_weight(model, text) or _DEFAULT_BYTES_PER_WEIGHT.get(model.format.lower(), 2.0))
        / 1e9
    )
    return billions if billions <= MAX_BILLIONS else 0.0
