"""What a model's name, its parameter count and its file's size tell of its number of parameters. Pure text reading."""

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
"""No model has more billions of parameters than this: a number beyond is not a size."""


@dataclass(frozen=True, slots=True)
class Size:
    """Billions of parameters, 0.0 where nothing tells. `active` is what works on each token, all of it where dense."""

    total: float
    active: float

    @property
    def dense_equivalent(self) -> float:
        """The dense model that a mixture of experts compares to: the geometric mean of active and total."""
        return float((self.total * self.active) ** 0.5)


def normalize_name(name: str) -> str:
    """A name as the patterns here and in the families expect it: lower case, no folders, one kind of separator.

    >>> plain("hf.co/bartowski/Llama_3.2-3B-Instruct-GGUF:Q4_K_M")
    'llama-3.2-3b-instruct-gguf:q4-k-m'
    """
    parts = [part for part in name.lower().replace("\\", "/").split("/") if part]
    last = parts[-1] if parts else ""
    return "-".join(last.removesuffix(".gguf").replace("_", "-").replace("@", "-").split())


def estimate_size(model: Model, text: str, total: float, active: float) -> Size:
    """A model's size; `text` is its plain name, `total` and `active` its family's, used where nothing else tells.

    What the server counted is believed before the name, the name before the file's size. A family's `active` is for
    names that do not tell that the model is a mixture of experts.
    """
    experts = _EXPERTS.search(text)
    spoken = _parse_billions(_TOTAL.search(text))
    effective = _EFFECTIVE.search(text)
    told = _parse_billions(_ACTIVE.search(text))
    if experts and int(experts[1]) > _MAX_SEPARATE_EXPERTS:
        told = told or float(experts[2])  # llama4:16x17b counts what works, not what an expert has
    elif experts:
        each = float(experts[2])
        spoken, told = int(experts[1]) * each * 0.83, told or 2 * each * 0.92  # attention is shared, two experts work
    if effective:
        told = float(effective[1])
        spoken = spoken or 1.9 * told  # embeddings of each layer come on top
    whole = parse_parameter_count(model.parameters) or spoken or _estimate_from_file_size(model, text) or total
    working = told or active or whole
    return Size(whole, min(working, whole) if whole else working)


def parse_parameter_count(parameters: str) -> float:
    """Billions from what a server calls parameter size ("8.0B", "999.89M"); 0.0 where that is no number."""
    return _parse_billions(_COUNTED.fullmatch(parameters))


def find_bytes_per_weight(model: Model, text: str) -> float:
    """Bytes for each weight; 0.0 where neither the server nor the name tells."""
    for said in (model.quantization.lower(), text):
        for pattern, size in _BYTES_PER_WEIGHT:
            if said and pattern.search(said):
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
