"""How hard a request is and what it is about: what the choice of a model turns on."""

import enum
from dataclasses import dataclass


class Level(enum.IntEnum):
    """The smallest class of model that should answer well, by size: about 1B, 3–4B, 12B, and a 14B coder or 70B."""

    TRIVIAL = 0
    SIMPLE = 1
    MODERATE = 2
    COMPLEX = 3

    @property
    def label(self) -> str:
        """As users and programs see it."""
        return self.name.lower()


class TaskType(enum.Enum):
    """What kind of work is asked for."""

    CHAT = "chat"
    FACTUAL = "factual"
    EXPLANATION = "explanation"
    WRITING = "writing"
    CODE = "code"
    MATH_REASONING = "math_reasoning"
    TRANSFORM = "transform"


@dataclass(frozen=True, slots=True)
class Classification:
    """A text's level and kind; `scores` are the probabilities of the four levels, lowest first, their sum is 1."""

    level: Level
    task_type: TaskType
    scores: tuple[float, float, float, float]


@dataclass(slots=True)
class RequestProfile:
    """What is known of a call whose model is left to the gateway. `context_tokens` is an estimate of all it sends.

    `russian`: whether words to its caller are better in Russian. Not frozen; nobody changes it.
    """

    level: Level
    task_type: TaskType
    tools: bool = False
    images: int = 0
    context_tokens: int = 0
    russian: bool = False
    scores: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
