"""Complexity and task type of a request, on which the choice of a model depends."""

import enum
from dataclasses import dataclass


class Level(enum.IntEnum):
    """Complexity, by the size of the smallest suitable model: about 1B, 3–4B, 12B, and a 14B coder or 70B."""

    TRIVIAL = 0
    SIMPLE = 1
    MODERATE = 2
    COMPLEX = 3

    @property
    def label(self) -> str:
        """Return the name that users and programs see."""
        return self.name.lower()


class TaskType(enum.Enum):
    """Kind of task."""

    CHAT = "chat"
    FACTUAL = "factual"
    EXPLANATION = "explanation"
    WRITING = "writing"
    CODE = "code"
    MATH_REASONING = "math_reasoning"
    TRANSFORM = "transform"


@dataclass(frozen=True, slots=True)
class Classification:
    """Level and task type of a text. `scores` are probabilities of the four levels, lowest first, with the sum 1."""

    level: Level
    task_type: TaskType
    scores: tuple[float, float, float, float]


@dataclass(slots=True)
class RequestProfile:
    """Profile of a call whose model the gateway chooses. `context_tokens` is an estimate of the complete prompt.

    `prefers_russian`: messages to the client should be in Russian. Not frozen, for speed, but never changed.
    """

    level: Level
    task_type: TaskType
    has_tools: bool = False
    image_count: int = 0
    context_tokens: int = 0
    prefers_russian: bool = False
    scores: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
