"""Machines of the scenarios: their models, memory, and speed of loading, prefill and decoding.

Sizes on disk come from `penstock.sim`; rates are those of its scenario with the same machines, where it has them.
"""

from dataclasses import dataclass

from penstock.sim.options import SimModel

GB = 1e9


@dataclass(frozen=True, slots=True)
class Weights:
    """Model on a machine. `memory` is bytes when loaded, with KV cache; rates are tokens per second."""

    name: str
    memory: float
    load_seconds: float
    prefill: float
    decode: float
    slots: int
    disk: float = 0.0


@dataclass(frozen=True, slots=True)
class Machine:
    """Machine with one model server. `memory` is in bytes, `latency` the one-way network latency in seconds.

    `downtimes` are spans of time in which the server is down.
    """

    name: str
    memory: float
    models: tuple[Weights, ...]
    latency: float = 0.0
    downtimes: tuple[tuple[float, float], ...] = ()
    loaded: tuple[str, ...] = ()
    secondary: bool = False

    def find_weights(self, model: str) -> Weights:
        """Return a model's weights. Raises KeyError if it is not on the disk."""
        for weights in self.models:
            if weights.name == model:
                return weights
        raise KeyError(model)


@dataclass(frozen=True, slots=True)
class Disk:
    """Disk speed in bytes per second, and the fixed seconds of each load."""

    rate: float
    setup: float


def build_weights(name: str, disk: Disk, prefill: float, decode: float, slots: int, cache: float) -> Weights:
    """Build a model; `cache` is bytes of KV cache and buffers."""
    size = SimModel.from_name(name).size_bytes
    return Weights(name, size + cache, size / disk.rate + disk.setup, prefill, decode, slots, size)


NVME = Disk(2.5 * GB, 1.0)
LAPTOP = Disk(1.5 * GB, 0.3)
CACHES = {"llama3.3:70b": 5.3, "gemma3:12b": 2.4, "qwen2.5-coder:14b": 4.0, "qwen3:14b": 3.5, "gemma3:27b": 3.6}
SPEEDS = {  # prefill, decode
    "llama3.3:70b": (600.0, 17.0),
    "gemma3:12b": (2200.0, 58.0),
    "qwen2.5-coder:14b": (2000.0, 52.0),
    "qwen3:14b": (2000.0, 50.0),
    "gemma3:1b": (500.0, 45.0),
    "qwen2.5:1.5b": (380.0, 36.0),
    "phi3:3b": (150.0, 16.0),
}


def build_gpu_models(names: tuple[str, ...], slots: int, faster: float = 1.0) -> tuple[Weights, ...]:
    return tuple(
        build_weights(name, NVME, SPEEDS[name][0] * faster, SPEEDS[name][1] * faster, slots, CACHES[name] * GB)
        for name in names
    )


def build_remote(away: tuple[tuple[float, float], ...] = ()) -> Machine:
    """Build a server with three RTX 3090; all but one of its models fit together if the 70B is among them."""
    models = build_gpu_models(("llama3.3:70b", "gemma3:12b", "qwen2.5-coder:14b", "qwen3:14b"), slots=4)
    return Machine("remote", 72 * GB, models, latency=0.004, downtimes=away)


def build_laptop() -> Machine:
    """Build a laptop without GPU, with small models that all fit in memory."""
    names = ("gemma3:1b", "qwen2.5:1.5b", "phi3:3b")
    models = tuple(build_weights(name, LAPTOP, *SPEEDS[name], slots=2, cache=0.4 * GB) for name in names)
    return Machine("localhost", 10 * GB, models, secondary=True)


def build_two_gpus() -> tuple[Machine, Machine]:
    """Build an RTX 3090 and an RTX 4090 with the same models, two of which fit together."""
    names = ("qwen2.5-coder:14b", "gemma3:12b", "qwen3:14b")
    return (
        Machine("code_server", 24 * GB, build_gpu_models(names, slots=2), latency=0.002),
        Machine("chat_server", 24 * GB, build_gpu_models(names, slots=2, faster=1.25), latency=0.002),
    )
