"""The classifier: levels of typical texts, and properties for any text."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.domain.complexity import Level, TaskType
from penstock.gateway.routing.complexity.classifier import WEIGHTS, Classifier, choose_level
from penstock.gateway.routing.complexity.features import HEAD_CHARS, TAIL_CHARS, clip_text
from penstock.gateway.routing.complexity.weights import dump_weights, load_weights_file, parse_weights

SHARED = Classifier()

texts = st.one_of(
    st.text(max_size=400),
    st.text(alphabet="абвгдеёжя АБВ abc 0123 ,.?!\n`{}();=<>$\\", max_size=400),
    st.lists(
        st.sampled_from(["Привет", "design", "напиши", "код", "prove", "2+2", "```", "👍", "\x00", "\ud800"]),
        max_size=60,
    ).map(" ".join),
)
weights = st.lists(st.integers(0, 1000), min_size=4, max_size=4).filter(any)


@pytest.mark.parametrize(
    ("text", "level", "kinds"),
    [
        ("Привет!", "trivial", "chat"),
        ("Hello!", "trivial", "chat"),
        ("спасибо, пока", "trivial", "chat"),
        ("Столица Португалии?", "simple", "factual"),
        ("What is the capital of Portugal?", "simple", "factual"),
        ("переведи на английский: доброе утро", "simple", "transform"),
        ("Объясни паттерн Singleton", "moderate", "explanation code"),
        ("Explain the Singleton pattern", "moderate", "explanation code"),
        ("Напиши систему авторизации с JWT, refresh tokens и rate limiting", "complex", "code"),
        ("Write an authorization system with JWT, refresh tokens and rate limiting", "complex", "code"),
        ("Докажи теорему Лагранжа о среднем", "complex", "math_reasoning"),
        ("Prove the mean value theorem", "complex", "math_reasoning"),
    ],
)
def test_typical_texts_are_classified_as_expected(text: str, level: str, kinds: str) -> None:
    judgement = SHARED.classify(text)
    assert judgement.level.label == level
    assert judgement.task_type.value in kinds.split()


@pytest.mark.parametrize(
    ("english", "russian"),
    [
        ("Good evening!", "Добрый вечер!"),
        ("How many days are there in a leap year?", "Сколько дней в високосном году?"),
        ("Explain how a hash table works", "Объясни, как работает хеш-таблица"),
        ("Write a cover letter for a nurse", "Напиши сопроводительное письмо для медсестры"),
        ("Compare MySQL and PostgreSQL", "Сравни MySQL и PostgreSQL"),
        ("Design a distributed message queue", "Спроектируй распределённую очередь сообщений"),
        ("Implement a lock-free queue in C++", "Реализуй lock-free очередь на C++"),
        ("Prove that there are infinitely many primes", "Докажи, что простых чисел бесконечно много"),
    ],
)
def test_the_language_does_not_change_the_level(english: str, russian: str) -> None:
    one, other = SHARED.classify(english), SHARED.classify(russian)
    assert one.level is other.level
    assert one.task_type is other.task_type


@given(texts)
def test_any_text_gets_probabilities_and_their_level(text: str) -> None:
    judgement = SHARED.classify(text)
    assert math.isclose(sum(judgement.scores), 1, abs_tol=1e-9)
    assert all(0 <= score <= 1 for score in judgement.scores)
    assert judgement.level is choose_level(judgement.scores, SHARED.under_cost)
    assert judgement.task_type in TaskType


@given(texts)
def test_the_result_depends_on_the_text_alone(text: str) -> None:
    assert Classifier(cache_size=0).classify(text) == SHARED.classify(text)


@given(weights, st.floats(0.1, 20), st.floats(1.001, 10))
def test_a_higher_under_cost_never_lowers_the_level(parts: list[int], under_cost: float, times: float) -> None:
    scores = [part / sum(parts) for part in parts]
    assert choose_level(scores, under_cost) <= choose_level(scores, under_cost * times)


@given(st.integers(0, 3), st.floats(0.01, 100))
def test_a_certain_level_is_chosen(level: int, under_cost: float) -> None:
    assert choose_level([float(one == level) for one in range(4)], under_cost) == level


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n\t",
        "\x00\x01\x02",
        "👍🙂🔥" * 50,
        "def f(x):\n    return x\n" * 500,
        "a" * 1_000_000,
        "я " * 500_000,
        "\ud800",
        "。" * 9000,
    ],
    ids=["empty", "space", "control", "emoji", "code", "one-word", "megabyte", "surrogate", "chinese"],
)
def test_no_text_makes_the_classifier_fail(text: str) -> None:
    assert SHARED.classify(text).level in Level


@given(st.text(min_size=1, max_size=50), st.integers(1, 2000))
def test_only_beginning_and_end_of_a_long_text_count(piece: str, times: int) -> None:
    text = piece * times
    clipped = clip_text(text)
    assert len(clipped) <= HEAD_CHARS + TAIL_CHARS + 1
    assert text.startswith(clipped[:HEAD_CHARS])
    assert text.endswith(clipped[-TAIL_CHARS:])


def test_the_result_does_not_depend_on_the_process() -> None:
    samples = [
        "Привет!",
        "Design a rate limiter",
        "сколько будет 2+2",
        "x" * 5000,
        "Объясни паттерн Singleton и приведи пример",
    ]
    program = (
        "import json,sys; from penstock.gateway.routing.complexity.classifier import Classifier as C; c=C();"
        "print(json.dumps([c.classify(t).scores for t in json.load(sys.stdin)]))"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", program],
            input=json.dumps(samples),
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    }
    assert answers == {json.dumps([SHARED.classify(text).scores for text in samples]) + "\n"}


def test_the_cache_keeps_the_latest_results_up_to_its_size() -> None:
    classifier = Classifier(cache_size=3)
    first = classifier.classify("text 0")
    for number in range(1, 3):
        classifier.classify(f"text {number}")
    assert classifier.classify("text 0") is first
    for number in range(10, 12):
        classifier.classify(f"text {number}")
    assert len(classifier._cache) == 3
    assert classifier.classify("text 0") is first


def test_the_weights_are_small_and_can_be_written_and_read() -> None:
    data = WEIGHTS.read_bytes()
    assert len(data) <= 400_000
    assert dump_weights(parse_weights(data)) == data


def test_a_file_without_weights_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"training/train\.py"):
        load_weights_file(tmp_path / "weights.bin")
