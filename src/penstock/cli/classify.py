"""`penstock classify`: levels of many texts, one JSON object a line in and out."""

import sys
from collections.abc import Iterable
from typing import TextIO

import msgspec

from penstock.domain.complexity import Classification
from penstock.gateway.routing.complexity.classifier import UNDER_COST, Classifier

DIGITS = 4
"""Decimal places of the scores."""


class _Line(msgspec.Struct):
    text: str


class _Answer(msgspec.Struct):
    level: str
    task_type: str
    scores: dict[str, float]


_LEVELS = ("trivial", "simple", "moderate", "complex")
_read = msgspec.json.Decoder(_Line).decode
_write = msgspec.json.Encoder().encode


def run(under_cost: float = UNDER_COST, source: Iterable[bytes] | None = None, target: TextIO | None = None) -> int:
    """Judge the texts in `source` (standard input unless given), in order.

    Returns 1 at the first line that is no text, else 0. Empty lines are passed over; what stands before a bad line is
    answered.
    """
    classifier = Classifier(under_cost)
    write = (target or sys.stdout).write
    for number, line in enumerate(source or sys.stdin.buffer, 1):
        if not line.strip():
            continue
        try:
            text = _read(line).text
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            sys.stderr.write(f'penstock: line {number}: want {{"text": "…"}}: {error}\n')
            return 1
        write(_write(_answer(classifier.classify(text))).decode() + "\n")
    return 0


def _answer(judgement: Classification) -> _Answer:
    scores = {level: round(score, DIGITS) for level, score in zip(_LEVELS, judgement.scores, strict=True)}
    return _Answer(judgement.level.label, judgement.task_type.value, scores)
