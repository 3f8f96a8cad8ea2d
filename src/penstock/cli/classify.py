"""`penstock classify`: classify many texts, one JSON object per line in and out."""

import sys
from collections.abc import Iterable
from typing import TextIO

import msgspec

from penstock.cli.options import FAILURE, ConfigOption, load_or_exit, print_error
from penstock.domain.complexity import Classification
from penstock.gateway.routing.complexity.classifier import UNDER_COST, Classifier

SCORE_DIGITS = 4
"""Decimal places of the scores."""


class _InputLine(msgspec.Struct):
    text: str


class _OutputLine(msgspec.Struct):
    level: str
    task_type: str
    scores: dict[str, float]


_LEVELS = ("trivial", "simple", "moderate", "complex")
_decode = msgspec.json.Decoder(_InputLine).decode
_encode = msgspec.json.Encoder().encode


def classify(config: ConfigOption = None) -> int:
    """Classify texts by complexity and type of task.

    Reads {"text": …} lines and prints {"level", "task_type", "scores"} lines in the same order. No gateway is needed.

    \b
    Examples:
      penstock classify < texts.jsonl > levels.jsonl
      echo '{"text": "Привет!"}' | penstock classify
    """
    return classify_lines(load_or_exit(config).routing.under_cost)


def classify_lines(
    under_cost: float = UNDER_COST, source: Iterable[bytes] | None = None, target: TextIO | None = None
) -> int:
    """Classify the texts in `source` (default: standard input) and write the results to `target`, in order.

    Return 1 at the first invalid line, else 0. Empty lines are skipped; the lines before an invalid one are answered.
    """
    classifier = Classifier(under_cost)
    write = (target or sys.stdout).write
    for number, line in enumerate(source or sys.stdin.buffer, 1):
        if not line.strip():
            continue
        try:
            text = _decode(line).text
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            print_error(f'penstock: Line {number} is not of the form {{"text": "…"}}: {error}.')
            return FAILURE
        write(_encode(_build_output(classifier.classify(text))).decode() + "\n")
    return 0


def _build_output(classification: Classification) -> _OutputLine:
    scores = {level: round(score, SCORE_DIGITS) for level, score in zip(_LEVELS, classification.scores, strict=True)}
    return _OutputLine(classification.level.label, classification.task_type.value, scores)
