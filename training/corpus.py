"""Labelled prompts: external data, and the project's own in `prompts/`."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

LEVELS = ("trivial", "simple", "moderate", "complex")
TYPES = ("chat", "factual", "explanation", "writing", "code", "math_reasoning", "transform")
OWN = "own"

_FAMILIES = (
    ("chatterbot-en-trivia", "trivia"),
    ("chatterbot", "chatterbot"),
    ("handwritten", "handwritten"),
    ("llmrouter", "llmrouter"),
    ("arena-hard", "arena"),
    ("ru-arena-hard", "arena"),
    ("self-instruct", "instruct"),
    ("ru-alpaca", "instruct"),
)


@dataclass(frozen=True)
class Prompt:
    """Prompt with its labels; `level` and `task_type` are indices into `LEVELS` and `TYPES`."""

    text: str
    lang: str
    level: int
    task_type: int
    source: str

    @property
    def family(self) -> str:
        """Group of related sources (translations, one author), which cross-validation leaves out together."""
        return next((family for start, family in _FAMILIES if self.source.startswith(start)), self.source)


def read_prompts(paths: Iterable[Path], source: str | None = None) -> list[Prompt]:
    """Read prompts from files with one JSON object per line."""
    return [
        Prompt(
            row["text"],
            row["lang"],
            LEVELS.index(row["level"]),
            TYPES.index(row["task_type"]),
            source or row["source"],
        )
        for path in paths
        for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())
    ]


def exclude_texts(prompts: Sequence[Prompt], others: Iterable[Prompt]) -> list[Prompt]:
    """Return the prompts whose text is not in `others` (case and spaces ignored), to keep test data out of training."""
    known = {_normalize(other.text) for other in others}
    return [prompt for prompt in prompts if _normalize(prompt.text) not in known]


def _normalize(text: str) -> str:
    return " ".join(text.lower().split())
