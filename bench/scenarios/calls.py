"""Calls of a simulated day: time, size, complexity and allowed models. Seeded."""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from penstock.domain.complexity import Level, TaskType

HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class VisibleCall:
    """Call as a gateway sees it on arrival.

    `model` is empty if the caller named none. `allowed_models` may answer, the preferred one first. `prompt_tokens` is
    estimated from the text.
    """

    number: int
    arrived_at: float
    user: int
    model: str
    level: Level
    task: TaskType
    prompt_tokens: int
    allowed_models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """Call with the length of its response, which only the simulation knows."""

    visible: VisibleCall
    answer_tokens: int


# The table of distributed routing: all models are suitable, the first is preferred.
FAST = ("gemma3:1b", "qwen2.5:1.5b")
SMALL = ("phi3:3b", "gemma3:12b")
BALANCED = ("gemma3:12b", "qwen3:14b", "llama3.3:70b")
CODER = ("qwen2.5-coder:14b", "qwen3:14b", "llama3.3:70b")
STRONG_CODER = ("qwen2.5-coder:14b", "llama3.3:70b")
MATHS = ("qwen3:14b", "gemma3:12b", "llama3.3:70b")
POWERFUL = ("llama3.3:70b",)


def choose_models(level: Level, task: TaskType) -> tuple[str, ...]:
    """Return the allowed models. The rules are the same for all policies, which differ in scheduling only."""
    if task is TaskType.CODE and level is not Level.TRIVIAL:
        return STRONG_CODER if level is Level.COMPLEX else CODER
    if level is Level.MODERATE and task is TaskType.MATH_REASONING:
        return MATHS
    return (FAST, SMALL, BALANCED, POWERFUL)[level]


@dataclass(frozen=True, slots=True)
class RequestPattern:
    """Kind of request: its share, and median and spread (log-normal) of prompt and response in tokens."""

    share: float
    level: Level
    task: TaskType
    prompt: float
    answer: float
    spread: float = 0.7


MIXED = (
    RequestPattern(0.16, Level.TRIVIAL, TaskType.CHAT, 40, 30, 0.5),
    RequestPattern(0.08, Level.SIMPLE, TaskType.FACTUAL, 70, 90),
    RequestPattern(0.06, Level.SIMPLE, TaskType.TRANSFORM, 250, 150),
    RequestPattern(0.17, Level.MODERATE, TaskType.EXPLANATION, 350, 320),
    RequestPattern(0.08, Level.MODERATE, TaskType.WRITING, 450, 400),
    RequestPattern(0.06, Level.MODERATE, TaskType.TRANSFORM, 1500, 300),
    RequestPattern(0.08, Level.MODERATE, TaskType.MATH_REASONING, 250, 380),
    RequestPattern(0.13, Level.MODERATE, TaskType.CODE, 900, 350),
    RequestPattern(0.11, Level.COMPLEX, TaskType.CODE, 1400, 600),
    RequestPattern(0.07, Level.COMPLEX, TaskType.MATH_REASONING, 600, 350),
)
OFFICE = tuple(
    RequestPattern(habit.share, habit.level, habit.task, habit.prompt, habit.answer, habit.spread)
    for habit in MIXED
    if habit.level >= Level.MODERATE and (habit.level is not Level.COMPLEX or habit.task is TaskType.CODE)
)


@dataclass(frozen=True, slots=True)
class Day:
    """Traffic of a day.

    `calls` is the approximate number. `named_share` of the conversations name a model, chosen from `named_models` by
    weight. `burst_count` bursts of `burst_size` simultaneous calls happen.
    """

    calls: int
    patterns: tuple[RequestPattern, ...]
    named_models: tuple[tuple[str, float], ...]
    named_share: float = 0.12
    users: int = 25
    burst_count: int = 8
    burst_size: int = 12
    hours: float = 24.0


def traffic_at(hour: float) -> float:
    """Return the relative traffic at an hour: office hours with a dip at noon, some in the evening, little at night."""
    morning = math.exp(-(((hour - 10.5) / 1.9) ** 2))
    afternoon = math.exp(-(((hour - 15.0) / 2.1) ** 2))
    evening = 0.35 * math.exp(-(((hour - 20.5) / 1.8) ** 2))
    return 0.03 + morning + afternoon + evening


def generate_calls(day: Day, seed: int) -> tuple[Call, ...]:
    """Generate the calls of a day in order of arrival, numbered from 0."""
    rng = random.Random(seed)
    drafts = sorted(_generate_conversations(day, rng), key=lambda draft: draft[0])
    return tuple(
        Call(VisibleCall(number, at, user, model, habit.level, habit.task, prompt, fits), answer)
        for number, (at, user, model, habit, prompt, answer, fits) in enumerate(drafts)
    )


Draft = tuple[float, int, str, RequestPattern, int, int, tuple[str, ...]]


def _generate_conversations(day: Day, rng: random.Random) -> Iterator[Draft]:
    turns = 3.0
    scattered = day.calls - day.burst_count * day.burst_size
    for _ in range(round(scattered / turns)):
        at = _draw_time(day, rng)
        user = rng.randrange(day.users)
        model = _draw_model(day, rng)
        habit = _draw_pattern(day, rng)
        for turn in range(1 + int(rng.expovariate(1 / turns) + 0.15)):
            if rng.random() < 0.35:
                habit = _draw_pattern(day, rng)
            yield _draw_call(at, user, model, habit, 1 + 0.5 * turn, rng)
            at += 15 + rng.lognormvariate(math.log(45), 0.7)
    for _ in range(day.burst_count):
        at, habit = _draw_time(day, rng), _draw_pattern(day, rng)
        for _ in range(day.burst_size):
            yield _draw_call(at + rng.uniform(0, 10), rng.randrange(day.users), "", habit, 1.0, rng)


def _draw_time(day: Day, rng: random.Random) -> float:
    while True:
        hour = rng.uniform(0, day.hours)
        if rng.random() * 1.2 < traffic_at(hour):
            return hour * HOUR


def _draw_model(day: Day, rng: random.Random) -> str:
    if rng.random() >= day.named_share:
        return ""
    return rng.choices([name for name, _ in day.named_models], [weight for _, weight in day.named_models])[0]


def _draw_pattern(day: Day, rng: random.Random) -> RequestPattern:
    return rng.choices(day.patterns, [habit.share for habit in day.patterns])[0]


def _draw_call(at: float, user: int, model: str, habit: RequestPattern, growth: float, rng: random.Random) -> Draft:
    prompt = 20 + int(rng.lognormvariate(math.log(habit.prompt * growth), habit.spread))
    answer = 1 + int(rng.lognormvariate(math.log(habit.answer), habit.spread))
    fits = (model,) if model else choose_models(habit.level, habit.task)
    return at, user, model, habit, min(prompt, 7000), min(answer, 4000), fits
