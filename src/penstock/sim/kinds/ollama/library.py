"""Installed models and blobs of a simulated Ollama, and their descriptions."""

import hashlib
import time
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from penstock.sim.kinds.ollama.model_names import Name, parse_name
from penstock.sim.options import SimModel

_EMBEDDING_LENGTH = {"bert": 384, "nomic-bert": 768}


@dataclass(frozen=True, slots=True)
class Installed:
    """A model on disk. `model.name` is its display name."""

    name: Name
    model: SimModel
    modified_at: datetime
    system: str = ""
    template: str = "{{ .Prompt }}"
    license: str = "Simulated: no weights, no licence."
    parameters: dict[str, Any] = field(default_factory=dict)
    messages: tuple[dict[str, Any], ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256-like digest: 64 hexadecimal digits, the same for the same content."""
        content = repr(
            (self.model.size_bytes, self.model.family, self.model.quantization, self.system, self.parameters)
        )
        return hashlib.sha256(f"{self.name.model} {content}".encode()).hexdigest()

    @property
    def embedding_length(self) -> int:
        return _EMBEDDING_LENGTH.get(self.model.family, 1152 if self.model.parameters < 2e9 else 4096)

    def build_details(self) -> dict[str, Any]:
        model = self.model
        return {
            "parent_model": "",
            "format": "gguf",
            "family": model.family,
            "families": [model.family],
            "parameter_size": model.parameter_size,
            "quantization_level": model.quantization,
        }

    def model_info(self, *, verbose: bool) -> dict[str, Any]:
        """Return the GGUF metadata, sorted; arrays only if `verbose`."""
        arch, model = self.model.family, self.model
        info: dict[str, Any] = {
            "general.architecture": arch,
            "general.file_type": 15,
            "general.parameter_count": model.parameters,
            "general.quantization_version": 2,
            f"{arch}.attention.head_count": 16,
            f"{arch}.block_count": 26,
            f"{arch}.context_length": model.context_length,
            f"{arch}.embedding_length": self.embedding_length,
            "tokenizer.ggml.bos_token_id": 2,
            "tokenizer.ggml.eos_token_id": 1,
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.tokens": ["<eos>", "<bos>", "simulated"] if verbose else None,
        }
        return dict(sorted(info.items()))

    def list_tensors(self) -> list[dict[str, Any]]:
        shape = [self.embedding_length, 32000]
        return [
            {"name": "token_embd.weight", "type": "Q6_K", "shape": shape},
            {"name": "output_norm.weight", "type": "F32", "shape": shape[:1]},
        ]


class Library:
    """Installed models by name, newest first in lists."""

    def __init__(self, models: tuple[SimModel, ...]) -> None:
        self.blobs: dict[str, int] = {}
        self._installed: dict[str, Installed] = {}
        start = datetime.now().astimezone()
        for age, model in enumerate(models):
            name = parse_name(model.name)
            if name is None:
                raise ValueError(f"{model.name!r} is not a name that Ollama could hold")
            self.add(Installed(name, model, start - timedelta(hours=age)))

    def add(self, installed: Installed) -> None:
        self._installed[installed.name.key] = replace(
            installed, model=replace(installed.model, name=installed.name.display)
        )

    def find(self, name: Name) -> Installed | None:
        return self._installed.get(name.key)

    def remove(self, name: Name) -> bool:
        return self._installed.pop(name.key, None) is not None

    def all(self) -> list[Installed]:
        return sorted(self._installed.values(), key=lambda installed: installed.modified_at, reverse=True)


def utc_now() -> str:
    """Format as RFC 3339 in UTC with nanoseconds, trailing zeros removed."""
    seconds, fraction = divmod(time.time_ns(), 10**9)
    head = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    digits = f"{fraction:09d}".rstrip("0")
    return f"{head}.{digits}Z" if digits else f"{head}Z"


def local_time(moment: datetime) -> str:
    """Format as RFC 3339 with the server's own offset."""
    return moment.astimezone().isoformat(timespec="microseconds")
