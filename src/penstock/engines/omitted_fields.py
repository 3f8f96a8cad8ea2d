"""Fields of a request that a server lacks.

Each is left out and named to the caller where its absence cannot change the meaning of the answer (hints,
housekeeping, tools of a provider, fields that nobody knows yet), and refused where it would.
"""

from collections.abc import Iterable

from penstock.domain.content import Json, Sampling
from penstock.domain.errors import Unsupported
from penstock.engines.json_fields import UNSET_VALUES

_REFUSED_FIELDS = frozenset(
    {
        # constraints on the text
        *("grammar", "regex", "ebnf", "json_schema", "structured_outputs", "guided_json", "guided_regex"),
        *("guided_choice", "guided_grammar", "allowed_token_ids", "stop", "stop_token_ids"),
        # other output
        *("audio", "modalities", "n", "echo", "logprobs", "prompt_logprobs", "n_probs"),
        # input
        *("suffix", "context", "template", "chat_template", "documents", "images", "system"),
        *("continue_final_message", "prompt_embeds"),
    }
)
"""Fields whose absence would change the meaning of the answer."""

_NEUTRAL_VALUES: dict[str, tuple[bytes, ...]] = {
    "best_of": (b"1",),
    "frequency_penalty": (b"0", b"0.0"),
    "min_p": (b"0", b"0.0"),
    "mirostat": (b"0",),
    "modalities": (b'["text"]',),
    "n": (b"1",),
    "presence_penalty": (b"0", b"0.0"),
    "raw": (b"true",),  # prompts of completions are raw everywhere but on Ollama
    "repeat_penalty": (b"1", b"1.0"),
    "service_tier": (b'"auto"', b'"default"'),
    "temperature": (b"1", b"1.0"),
    "tfs_z": (b"1", b"1.0"),
    "top_k": (b"0", b"-1"),
    "top_logprobs": (b"0",),
    "top_p": (b"1", b"1.0"),
    "truncation": (b'"disabled"',),
    "typical_p": (b"0", b"0.0", b"1", b"1.0"),
    "verbosity": (b'"medium"',),
}
"""Values that request the default."""

_SAMPLING_FIELDS = (
    *("max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "presence_penalty", "frequency_penalty"),
    *("repeat_penalty", "n"),
)


class OmittedFields:
    """Names of the fields that a request leaves out, each once. `title` names the server in errors."""

    __slots__ = ("_names", "_title")

    def __init__(self, title: str) -> None:
        self._title = title
        self._names: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names in the order in which they were added."""
        return self._names

    def add_name(self, name: str) -> None:
        """Add the name of a field that may be left out."""
        if name not in self._names:
            self._names += (name,)

    def add_field(self, name: str, value: Json) -> None:
        """Add a field unless its value requests nothing. Raises Unsupported if it must not be left out."""
        value = value.strip()
        if value in UNSET_VALUES or value in _NEUTRAL_VALUES.get(name, ()):
            return
        if name in _REFUSED_FIELDS and not (name == "modalities" and value.replace(b" ", b"") == b'["text"]'):
            raise Unsupported(
                f"{self._title} does not support `{name}`. Leave it out or use another server.", param=name
            )
        if name not in self._names:
            self._names += (name,)

    def add_fields(self, fields: Iterable[tuple[str, Json]]) -> None:
        """Add several fields."""
        for name, value in fields:
            self.add_field(name, value)

    def add_sampling(self, sampling: Sampling, supported: frozenset[str]) -> None:
        """Add the sampling parameters that are not in `supported`. Raises Unsupported as `add_field` does."""
        for name in _SAMPLING_FIELDS:
            value = getattr(sampling, name)
            if value is not None and name not in supported:
                self.add_field(name, str(value).encode())
        if sampling.stop and "stop" not in supported:
            self.add_field("stop", b"true")
        if sampling.logprobs and "logprobs" not in supported:
            self.add_field("logprobs", b"true")
