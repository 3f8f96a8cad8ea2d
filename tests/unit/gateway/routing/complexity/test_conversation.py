"""Influence of the conversation, tools, images and context on a level."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.domain.complexity import Level
from penstock.gateway.routing.complexity.conversation import (
    find_conversation_floor,
    is_follow_up,
    raise_level_for_context,
)

HARD = "Спроектируй распределённую очередь"


def classify(text: str) -> Level:
    return Level.COMPLEX if text == HARD else Level.SIMPLE


@pytest.mark.parametrize(
    "text",
    [
        "да, продолжай",
        "Да",
        "go on",
        "yes please",
        "дальше",
        "Continue.",
        "ok, do it",
        "давай подробнее",
        "2",
        "а теперь дальше?",
        "ещё раз",
    ],
)
def test_a_follow_up_keeps_the_level_of_what_it_continues(text: str) -> None:
    assert find_conversation_floor([HARD], text, classify) is Level.COMPLEX


@pytest.mark.parametrize(
    "text", ["спасибо", "нет, спасибо", "пока", "Привет!", "Столица Перу?", "thanks", "", "да " * 50, "1" * 78 + "x"]
)
def test_a_message_of_its_own_has_no_floor(text: str) -> None:
    assert find_conversation_floor([HARD], text, classify) is None


def test_a_chain_of_follow_ups_reaches_back_to_the_request() -> None:
    assert find_conversation_floor(["Привет", HARD, "да", "дальше"], "ещё", classify) is Level.COMPLEX


def test_a_follow_up_to_nothing_has_no_floor() -> None:
    assert find_conversation_floor([], "да, продолжай", classify) is None
    assert find_conversation_floor(["да", "ok"], "продолжай", classify) is None


@given(st.text(max_size=300))
def test_any_text_is_a_follow_up_or_not(text: str) -> None:
    assert is_follow_up(text) in (True, False)


@given(st.sampled_from(Level), st.booleans(), st.integers(0, 9), st.integers(0, 10**6))
def test_tools_images_and_context_never_lower_a_level(level: Level, tools: bool, images: int, tokens: int) -> None:
    assert raise_level_for_context(level, has_tools=tools, image_count=images, context_tokens=tokens) >= level


@pytest.mark.parametrize(
    ("beside", "level"),
    [
        ({}, Level.TRIVIAL),
        ({"has_tools": True}, Level.SIMPLE),
        ({"image_count": 1}, Level.SIMPLE),
        ({"image_count": 2}, Level.MODERATE),
        ({"context_tokens": 10_000}, Level.SIMPLE),
        ({"context_tokens": 50_000}, Level.MODERATE),
    ],
)
def test_tools_images_and_context_raise_the_level_of_a_greeting(beside: dict[str, int], level: Level) -> None:
    assert raise_level_for_context(Level.TRIVIAL, **beside) is level  # type: ignore[arg-type]
