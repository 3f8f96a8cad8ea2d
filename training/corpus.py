"""Labelled prompts: the data that is handed in, and the project's own in `prompts/`."""

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
    text: str
    lang: str
    level: int
    task_type: int
    source: str

    @property
    def family(self) -> str:
        """Sources that hold translations of each other, or come from one hand, are left out of training together."""
        return next((family for start, family in _FAMILIES if self.source.startswith(start)), self.source)


def read(paths: Iterable[Path], source: str | None = None) -> list[Prompt]:
    """The prompts in files of one JSON object a line."""
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


def without(prompts: Sequence[Prompt], others: Iterable[Prompt]) -> list[Prompt]:
    """Prompts whose text, but for case and spaces, is in none of the others: so nothing that was learned is tested."""
    known = {_bare(other.text) for other in others}
    return [prompt for prompt in prompts if _bare(prompt.text) not in known]


def _bare(text: str) -> str:
    return " ".join(text.lower().split())
