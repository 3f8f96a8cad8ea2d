"""Options of a simulated server: its kind, its models, its speed. A model's name is enough."""

import math
import re
from dataclasses import dataclass, field

from penstock.sim.faults import Faults

_COUNT = re.compile(r"(?<![\d.])(?:(\d+)x)?(\d+(?:\.\d+)?)([bm])(?![a-z])", re.IGNORECASE)
_QUANTIZATION = re.compile(
    r"(?<![a-z0-9])(q\d_k_[sml]|q\d_[01k]|q\dk|iq\d_\w+|bf16|fp16|f16|f32|fp8|awq|gptq|\dbit)(?![a-z0-9])",
    re.IGNORECASE,
)
_BITS = {
    "BF16": 16.0,
    "F16": 16.0,
    "FP16": 16.0,
    "F32": 32.0,
    "FP8": 8.0,
    "AWQ": 4.5,
    "GPTQ": 4.5,
    "Q8_0": 8.5,
    "Q4_0": 4.6,
}

TEXT = ("completion",)
TOOLS = ("completion", "tools")
VISION = ("completion", "vision")
THINKING = ("completion", "tools", "thinking")
EMBEDDING = ("embedding",)
_LICENSE = "Simulated: no weights, no licence."


@dataclass(frozen=True, slots=True)
class _Family:
    architecture: str
    context_length: int
    capabilities: tuple[str, ...]
    parameters: float = 7e9
    template: str = "go"
    stop: tuple[str, ...] = ()
    license: str = _LICENSE


# The longest prefix wins.
_FAMILIES = {
    "all-minilm": _Family("bert", 512, EMBEDDING, 23e6),
    "bge": _Family("bert", 8192, EMBEDDING, 567e6),
    "deepseek-r1": _Family("qwen2", 131072, THINKING, 8.2e9),
    "gemma2": _Family("gemma2", 8192, TEXT, 9.2e9),
    "gemma3": _Family("gemma3", 131072, VISION, 4.3e9),
    "gpt-oss": _Family("gptoss", 131072, THINKING, 20.9e9),
    "llama3": _Family("llama", 8192, TEXT, 8e9),
    "llama3.1": _Family("llama", 131072, TOOLS, 8e9),
    "llama3.2": _Family("llama", 131072, TOOLS, 3.2e9),
    "llama3.3": _Family("llama", 131072, TOOLS, 70.6e9),
    "llava": _Family("llama", 32768, VISION, 7.2e9),
    "meta-llama": _Family("llama", 131072, TOOLS, 8e9),
    "mistral": _Family("llama", 32768, TOOLS, 7.2e9),
    "mxbai-embed-large": _Family("bert", 512, EMBEDDING, 334e6),
    "nomic-embed-text": _Family("nomic-bert", 2048, EMBEDDING, 137e6),
    "phi3": _Family("phi3", 131072, TEXT, 3.8e9),
    "phi4": _Family("phi3", 16384, TEXT, 14.7e9),
    "qwen2.5": _Family("qwen2", 32768, TOOLS, 7.6e9),
    "qwen2.5-coder": _Family("qwen2", 32768, (*TOOLS, "insert"), 7.6e9),
    "qwen2.5vl": _Family("qwen25vl", 128000, VISION, 8.3e9),
    "qwen3": _Family("qwen3", 40960, THINKING, 8.2e9),
}
# Models that are small enough for tests, and that nobody published; by name, not by prefix.
_TEST_FAMILIES = {
    "nat": _Family("llama", 4096, TOOLS, 492160, "native", license=""),
    "tiny": _Family("llama", 4096, TOOLS, 492160, stop=("<|im_end|>",), license=""),
    "tiny-embed": _Family("llama", 4096, EMBEDDING, 492160, "native", license=""),
}
# name: (parameters, bytes on disk) where the tag rounds them
_EXACT = {
    "gemma3:1b": (999.89e6, 815e6),
    "gemma3:4b": (4.3e9, 3.3e9),
    "gemma3:12b": (12.2e9, 8.1e9),
    "gemma3:27b": (27.4e9, 17.4e9),
    "llama3.1:8b": (8.0e9, 4.9e9),
    "llama3.2:1b": (1.2e9, 1.3e9),
    "llama3.2:3b": (3.2e9, 2.0e9),
    "llama3.3:70b": (70.6e9, 42.5e9),
    "phi3:3b": (3.8e9, 2.2e9),
    "qwen2.5:1.5b": (1.5e9, 986e6),
    "qwen2.5-coder:14b": (14.8e9, 9.0e9),
    "qwen3:14b": (14.8e9, 9.3e9),
}


@dataclass(frozen=True, slots=True)
class SimModel:
    """One model of a simulated server.

    `size_bytes` is its size on disk, `parameters` their number, `context_length` tokens. `capabilities` are Ollama's
    words: completion, tools, insert, vision, embedding, thinking. The two rates (tokens per second) and `load_seconds`
    replace the server's own where they are not None. The rest is for Ollama: `template` is `go` (its own, by which it
    also finds tool calls) or `native` (that of the model's file, which llama-server applies); `stop` are the stop words
    of the Modelfile; models of the same `weights` are copies of one file, and share what is loaded.
    """

    name: str
    size_bytes: int
    parameters: int
    quantization: str = "Q4_K_M"
    context_length: int = 32768
    family: str = "llama"
    capabilities: tuple[str, ...] = TOOLS
    tokens_per_second: float | None = None
    prefill_tokens_per_second: float | None = None
    load_seconds: float | None = None
    template: str = "go"
    stop: tuple[str, ...] = ()
    license: str = ""
    weights: str = ""

    @classmethod
    def from_name(
        cls,
        name: str,
        *,
        capabilities: tuple[str, ...] | None = None,
        context_length: int | None = None,
        tokens_per_second: float | None = None,
        prefill_tokens_per_second: float | None = None,
        load_seconds: float | None = None,
    ) -> "SimModel":
        """Create a model with the properties that its name implies: `gemma3:12b` has 12.2 billion parameters in 8.1 GB.

        Raises ValueError if the name is empty.
        """
        if not name.strip():
            raise ValueError("a simulated model needs a name, for example gemma3:1b")
        base = name.lower().removesuffix(":latest")
        family = _family_of(base)
        quantization = _quantization_of(base, family)
        parameters, size = _EXACT.get(base, (0.0, 0.0))
        if not parameters:
            parameters = _parameters_of(base) or family.parameters
            size = parameters * _BITS.get(quantization, 4.9) / 8
        context, skills = family.context_length, family.capabilities
        if base.startswith("gemma3") and parameters < 2e9:
            context, skills = 32768, TEXT
        return cls(
            name=name.strip(),
            size_bytes=int(size),
            parameters=int(parameters),
            quantization=quantization,
            context_length=context_length or context,
            family=family.architecture,
            capabilities=skills if capabilities is None else capabilities,
            tokens_per_second=tokens_per_second,
            prefill_tokens_per_second=prefill_tokens_per_second,
            load_seconds=load_seconds,
            template=family.template,
            stop=family.stop,
            license=family.license,
        )

    @staticmethod
    def is_published(name: str) -> bool:
        """Return True if a model of that name could be pulled: its family is known."""
        return any(name.lower().startswith(prefix) for prefix in _FAMILIES)

    @property
    def parameter_size(self) -> str:
        """Format the number of parameters as Ollama does: `12.2B`, `999.89M`."""
        if self.parameters >= 1e9:
            return f"{self.parameters / 1e9:.1f}B"
        if self.parameters < 1e6:
            return f"{self.parameters / 1e3:.0f}K"
        return f"{self.parameters / 1e6:.2f}M"

    def has_capability(self, capability: str) -> bool:
        return capability in self.capabilities


def _family_of(base: str) -> _Family:
    short = base.rpartition("/")[2]
    if (small := _TEST_FAMILIES.get(short.partition(":")[0])) is not None:
        return small
    found = [prefix for prefix in _FAMILIES if base.startswith(prefix) or short.startswith(prefix)]
    if found:
        return _FAMILIES[max(found, key=len)]
    if "embed" in base:
        return _Family("bert", 8192, EMBEDDING, 137e6, license="")
    letters = re.match(r"[a-z]+", short)
    return _Family(letters[0] if letters else "llama", 32768, TOOLS, license="")


def _parameters_of(base: str) -> float:
    match = _COUNT.search(base)
    if match is None:
        return 0.0
    experts, count, unit = match.groups()
    return float(count) * int(experts or 1) * (1e9 if unit == "b" else 1e6)


def _quantization_of(base: str, family: _Family) -> str:
    match = _QUANTIZATION.search(base)
    if match:
        return match[1].upper()
    if family.capabilities == EMBEDDING:
        return "F16"
    return "BF16" if "/" in base and not base.startswith("hf.co/") else "Q4_K_M"


@dataclass(frozen=True, slots=True)
class SimOptions:
    """One simulated server.

    Times are seconds, rates tokens per second; `math.inf` (or 0 seconds) means no delay. `clock_scale` is how many
    simulated seconds pass in a real one. `slots` are generations at a time (on Ollama: per loaded model), `max_loaded`
    how many models fit, `queue_limit` how many may wait. `text` replaces the answer; `{message}` and `{model}` in it
    are filled in. `prefix` opens every text answer. A server of one model (vLLM, llama.cpp) is ready when started,
    unless `cold_start` makes it load first, and then it behaves as the real one while loading. `progress` gives
    Victoria its `/stream`. `idle_seconds` replaces the time after which this kind of server closes an idle connection.
    """

    kind: str = "ollama"
    host: str = "127.0.0.1"
    port: int = 0
    models: tuple[SimModel | str, ...] = ()
    slots: int = 2
    tokens_per_second: float = 50.0
    prefill_tokens_per_second: float = 2000.0
    load_seconds: float = 5.0
    max_loaded: int = 3
    queue_limit: int = 512
    text: str | None = None
    prefix: str = ""
    seed: int = 0
    faults: Faults = field(default_factory=Faults)
    clock_scale: float = 1.0
    cold_start: bool = False
    progress: bool = True
    idle_seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("slots", "max_loaded"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        for name in ("tokens_per_second", "prefill_tokens_per_second", "clock_scale"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be more than 0 (inf: at once)")
        if not 0 <= self.load_seconds < math.inf:
            raise ValueError("load_seconds must be 0 or more")
        if not 0 <= self.port <= 65535:
            raise ValueError("port must be 0 (any free one) to 65535")

    @classmethod
    def instant(
        cls, kind: str = "ollama", *models: SimModel | str, text: str | None = None, slots: int = 2
    ) -> "SimOptions":
        """Create options of a server that loads, reads and generates without delay."""
        return cls(
            kind,
            models=models,
            text=text,
            slots=slots,
            load_seconds=0,
            tokens_per_second=math.inf,
            prefill_tokens_per_second=math.inf,
        )

    def resolve_models(self, default: tuple[str, ...]) -> tuple[SimModel, ...]:
        """Return the models with all their properties; `default` if none are named."""
        return tuple(SimModel.from_name(model) if isinstance(model, str) else model for model in self.models or default)
