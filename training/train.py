"""Trains the classifier and writes its weights.

    python training/train.py DATA.jsonl [DATA.jsonl …] [--out FILE] [--no-cross-validation]

Prints the cross-validation by source (each family of sources judged by a model that saw nothing of it) before it fits
the model that is shipped to everything. The same data gives the same bytes.
"""
# ruff: noqa: T201

import argparse
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "src"))

import corpus  # noqa: E402
import fitting  # noqa: E402
import lexicon as words  # noqa: E402
import numpy as np  # noqa: E402
import scoring  # noqa: E402

from penstock.gateway.routing.complexity.classifier import UNDER_COST, WEIGHTS, Classifier  # noqa: E402
from penstock.gateway.routing.complexity.features import FeatureExtractor, Features  # noqa: E402
from penstock.gateway.routing.complexity.weights import dump_weights, parse_weights  # noqa: E402

OPTIONS = fitting.Options()


def main() -> int:
    arguments = _arguments()
    lexicon = words.read(HERE / "lexicon.txt")
    reader = FeatureExtractor(lexicon)
    given = corpus.read(arguments.data)
    own = corpus.read(sorted((HERE / "prompts").glob("*.jsonl")), corpus.OWN)
    print(f"{len(given)} prompts given, {len(own)} of our own")
    features = [reader.extract_features(prompt.text) for prompt in [*given, *own]]
    if not arguments.no_cross_validation:
        cross_validate(given, own, features)
    started = time.monotonic()
    matrix = fitting.Matrix(features, OPTIONS)
    levels, types = _fit([*given, *own], matrix.of(features))
    weights = fitting.shipped(matrix, levels, types, lexicon, OPTIONS)
    data = dump_weights(weights)
    arguments.out.write_bytes(data)
    print(
        f"{len(matrix.words)} words, {len(matrix.signs)} signs, {len(data):,} bytes, {time.monotonic() - started:.0f} s"
    )
    _check([*given, *own], data)
    return 0


def cross_validate(given: list[corpus.Prompt], own: list[corpus.Prompt], features: list[Features]) -> np.ndarray:
    """Judge each family by a model of the others and of our own prompts; prints a table, returns the probabilities."""
    true = np.array([prompt.level for prompt in given])
    types = np.array([prompt.task_type for prompt in given])
    families = np.array([prompt.family for prompt in given])
    scores, type_scores = np.zeros((len(given), 4)), np.zeros((len(given), len(corpus.TYPES)))
    at = {id(prompt): row for row, prompt in enumerate([*given, *own])}
    print(scoring.HEAD)
    for family in sorted(set(families)):
        held = np.flatnonzero(families == family)
        learned = [given[row] for row in np.flatnonzero(families != family)]
        learned += corpus.without(own, [given[row] for row in held])
        seen = [features[at[id(prompt)]] for prompt in learned]
        matrix = fitting.Matrix(seen, OPTIONS)
        level_model, type_model = _fit(learned, matrix.of(seen))
        tested = matrix.of([features[row] for row in held])
        scores[held] = fitting.probabilities(tested, level_model, OPTIONS.temperature, OPTIONS.traffic)
        type_scores[held] = fitting.probabilities(tested, type_model)
        guess = scoring.decide(scores[held], UNDER_COST)
        print(scoring.line(family, true[held], guess, types[held], type_scores[held].argmax(1)))
    languages = np.array([prompt.lang for prompt in given])
    for name, rows in (("all", languages != ""), ("en", languages == "en"), ("ru", languages == "ru")):
        for cost in (1.0, 1.5, UNDER_COST, 3.0):
            guess = scoring.decide(scores[rows], cost)
            line = scoring.line(
                f"{name}, under_cost {cost:g}", true[rows], guess, types[rows], type_scores[rows].argmax(1)
            )
            print(line)
    return scores


def _fit(prompts: list[corpus.Prompt], matrix: object) -> tuple[np.ndarray, np.ndarray]:
    weight = np.array([OPTIONS.own if prompt.source == corpus.OWN else 1.0 for prompt in prompts])
    levels = np.array([prompt.level for prompt in prompts])
    types = np.array([prompt.task_type for prompt in prompts])
    return (
        fitting.fit(matrix, levels, weight, OPTIONS, len(corpus.LEVELS)),
        fitting.fit(matrix, types, weight, OPTIONS, len(corpus.TYPES)),
    )


def _check(prompts: list[corpus.Prompt], data: bytes) -> None:
    """What the written file makes of its own training data, through the run time, and how fast."""
    classifier = Classifier(cache_size=0, weights=parse_weights(data))
    classifier.classify("warm")
    guess, took = [], []
    for prompt in prompts:
        started = time.perf_counter()
        judgement = classifier.classify(prompt.text)
        took.append((time.perf_counter() - started) * 1e6)
        guess.append(int(judgement.level))
    true = np.array([prompt.level for prompt in prompts])
    print(scoring.line("seen in training", true, np.array(guess)))
    print(f"mean {np.mean(took):.0f} µs, median {np.median(took):.0f}, p99 {np.percentile(took, 99):.0f}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="+", type=Path, help="labelled prompts, one JSON object a line")
    parser.add_argument(
        "--out", type=Path, default=WEIGHTS, help="where to write the weights (default: into the package)"
    )
    parser.add_argument("--no-cross-validation", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
