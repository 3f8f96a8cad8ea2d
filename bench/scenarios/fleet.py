"""The machines of the scenarios: what is on their disks, what fits in memory, how fast it loads, reads and writes.

Sizes on disk come from `penstock.sim`; rates are those of its scenario with the same machines, where it has them.
"""

from dataclasses import dataclass

from penstock.sim.options import SimModel

GB = 1e9


@dataclass(frozen=True, slots=True)
class Weights:
    """A model on a machine. `memory` is bytes when loaded, with its KV cache; rates are tokens per second."""

    name: str
    memory: float
    load_seconds: float
    prefill: float
    decode: float
    slots: int
    disk: float = 0.0


@dataclass(frozen=True, slots=True)
class Machine:
    """`memory` is what loaded models may take together (bytes), `latency` one way over the network (seconds).

    `away` are the spans in which it is dead. `slots` is what each loaded model can answer at a time.
    """

    name: str
    memory: float
    models: tuple[Weights, ...]
    latency: float = 0.0
    away: tuple[tuple[float, float], ...] = ()
    loaded: tuple[str, ...] = ()
    secondary: bool = False

    def weights(self, model: str) -> Weights:
        """Raises KeyError for a model that is not on its disk."""
        for weights in self.models:
            if weights.name == model:
                return weights
        raise KeyError(model)


@dataclass(frozen=True, slots=True)
class Disk:
    """How a machine loads: bytes a second, and seconds that every load takes beside reading."""

    rate: float
    setup: float


def weights(name: str, disk: Disk, prefill: float, decode: float, slots: int, cache: float) -> Weights:
    """`cache` is bytes of KV cache and buffers beside the model itself."""
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


def gpu(names: tuple[str, ...], slots: int, faster: float = 1.0) -> tuple[Weights, ...]:
    return tuple(
        weights(name, NVME, SPEEDS[name][0] * faster, SPEEDS[name][1] * faster, slots, CACHES[name] * GB)
        for name in names
    )


def remote(away: tuple[tuple[float, float], ...] = ()) -> Machine:
    """Three RTX 3090: all but one of its models fit at a time, as long as the 70B is among them."""
    models = gpu(("llama3.3:70b", "gemma3:12b", "qwen2.5-coder:14b", "qwen3:14b"), slots=4)
    return Machine("remote", 72 * GB, models, latency=0.004, away=away)


def laptop() -> Machine:
    """A processor only: small models, all of them in memory."""
    names = ("gemma3:1b", "qwen2.5:1.5b", "phi3:3b")
    models = tuple(weights(name, LAPTOP, *SPEEDS[name], slots=2, cache=0.4 * GB) for name in names)
    return Machine("localhost", 10 * GB, models, secondary=True)


def two_gpus() -> tuple[Machine, Machine]:
    """An RTX 3090 and an RTX 4090 with the same models on their disks, two of which fit beside each other."""
    names = ("qwen2.5-coder:14b", "gemma3:12b", "qwen3:14b")
    return (
        Machine("code_server", 24 * GB, gpu(names, slots=2), latency=0.002),
        Machine("chat_server", 24 * GB, gpu(names, slots=2, faster=1.25), latency=0.002),
    )
