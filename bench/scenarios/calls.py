"""What people ask during a day: when, how much, how hard, and which models may answer it. Seeded."""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from penstock.domain.complexity import Level, TaskType

HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Seen:
    """A call as a gateway sees it on arrival. `model` is empty where none is named; `fits` are the models that may
    answer, the preferred one first; `prompt_tokens` is counted from the text."""

    number: int
    arrived: float
    user: int
    model: str
    level: Level
    task: TaskType
    prompt_tokens: int
    fits: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A call with what only the world knows: how long its answer will be."""

    seen: Seen
    answer_tokens: int


# The table of distributed routing: the first is preferred, all of them answer well.
FAST = ("gemma3:1b", "qwen2.5:1.5b")
SMALL = ("phi3:3b", "gemma3:12b")
BALANCED = ("gemma3:12b", "qwen3:14b", "llama3.3:70b")
CODER = ("qwen2.5-coder:14b", "qwen3:14b", "llama3.3:70b")
STRONG_CODER = ("qwen2.5-coder:14b", "llama3.3:70b")
MATHS = ("qwen3:14b", "gemma3:12b", "llama3.3:70b")
POWERFUL = ("llama3.3:70b",)


def fitting(level: Level, task: TaskType) -> tuple[str, ...]:
    """Which models may answer; every policy has the same rules, so that they differ in scheduling only."""
    if task is TaskType.CODE and level is not Level.TRIVIAL:
        return STRONG_CODER if level is Level.COMPLEX else CODER
    if level is Level.MODERATE and task is TaskType.MATH_REASONING:
        return MATHS
    return (FAST, SMALL, BALANCED, POWERFUL)[level]


@dataclass(frozen=True, slots=True)
class Habit:
    """One way of asking: how often, and the medians and spreads (log-normal) of prompt and answer, in tokens."""

    share: float
    level: Level
    task: TaskType
    prompt: float
    answer: float
    spread: float = 0.7


MIXED = (
    Habit(0.16, Level.TRIVIAL, TaskType.CHAT, 40, 30, 0.5),
    Habit(0.08, Level.SIMPLE, TaskType.FACTUAL, 70, 90),
    Habit(0.06, Level.SIMPLE, TaskType.TRANSFORM, 250, 150),
    Habit(0.17, Level.MODERATE, TaskType.EXPLANATION, 350, 320),
    Habit(0.08, Level.MODERATE, TaskType.WRITING, 450, 400),
    Habit(0.06, Level.MODERATE, TaskType.TRANSFORM, 1500, 300),
    Habit(0.08, Level.MODERATE, TaskType.MATH_REASONING, 250, 380),
    Habit(0.13, Level.MODERATE, TaskType.CODE, 900, 350),
    Habit(0.11, Level.COMPLEX, TaskType.CODE, 1400, 600),
    Habit(0.07, Level.COMPLEX, TaskType.MATH_REASONING, 600, 350),
)
OFFICE = tuple(
    Habit(habit.share, habit.level, habit.task, habit.prompt, habit.answer, habit.spread)
    for habit in MIXED
    if habit.level >= Level.MODERATE and (habit.level is not Level.COMPLEX or habit.task is TaskType.CODE)
)


@dataclass(frozen=True, slots=True)
class Day:
    """A day's traffic. `calls` is about how many; `named` the share of conversations that name their model and
    `names` which one, with weights; `bursts` how often a day many ask at once, `burst` of them."""

    calls: int
    habits: tuple[Habit, ...]
    names: tuple[tuple[str, float], ...]
    named: float = 0.12
    users: int = 25
    bursts: int = 8
    burst: int = 12
    hours: float = 24.0


def rhythm(hour: float) -> float:
    """How busy an hour of the day is: office hours with a dip at noon, some in the evening, little at night."""
    morning = math.exp(-(((hour - 10.5) / 1.9) ** 2))
    afternoon = math.exp(-(((hour - 15.0) / 2.1) ** 2))
    evening = 0.35 * math.exp(-(((hour - 20.5) / 1.8) ** 2))
    return 0.03 + morning + afternoon + evening


def generate(day: Day, seed: int) -> tuple[Call, ...]:
    """The calls of a day by time of arrival, numbered from 0."""
    chance = random.Random(seed)
    drafts = sorted(_conversations(day, chance), key=lambda draft: draft[0])
    return tuple(
        Call(Seen(number, at, user, model, habit.level, habit.task, prompt, fits), answer)
        for number, (at, user, model, habit, prompt, answer, fits) in enumerate(drafts)
    )


Draft = tuple[float, int, str, Habit, int, int, tuple[str, ...]]


def _conversations(day: Day, chance: random.Random) -> Iterator[Draft]:
    turns = 3.0
    scattered = day.calls - day.bursts * day.burst
    for _ in range(round(scattered / turns)):
        at = _moment(day, chance)
        user = chance.randrange(day.users)
        model = _named(day, chance)
        habit = _habit(day, chance)
        for turn in range(1 + int(chance.expovariate(1 / turns) + 0.15)):
            if chance.random() < 0.35:
                habit = _habit(day, chance)
            yield _draft(at, user, model, habit, 1 + 0.5 * turn, chance)
            at += 15 + chance.lognormvariate(math.log(45), 0.7)
    for _ in range(day.bursts):
        at, habit = _moment(day, chance), _habit(day, chance)
        for _ in range(day.burst):
            yield _draft(at + chance.uniform(0, 10), chance.randrange(day.users), "", habit, 1.0, chance)


def _moment(day: Day, chance: random.Random) -> float:
    while True:
        hour = chance.uniform(0, day.hours)
        if chance.random() * 1.2 < rhythm(hour):
            return hour * HOUR


def _named(day: Day, chance: random.Random) -> str:
    if chance.random() >= day.named:
        return ""
    return chance.choices([name for name, _ in day.names], [weight for _, weight in day.names])[0]


def _habit(day: Day, chance: random.Random) -> Habit:
    return chance.choices(day.habits, [habit.share for habit in day.habits])[0]


def _draft(at: float, user: int, model: str, habit: Habit, growth: float, chance: random.Random) -> Draft:
    prompt = 20 + int(chance.lognormvariate(math.log(habit.prompt * growth), habit.spread))
    answer = 1 + int(chance.lognormvariate(math.log(habit.answer), habit.spread))
    fits = (model,) if model else fitting(habit.level, habit.task)
    return at, user, model, habit, min(prompt, 7000), min(answer, 4000), fits
