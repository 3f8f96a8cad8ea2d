"""Train the classifier and write its weights.

    python training/train.py DATA.jsonl [DATA.jsonl …] [--out FILE] [--no-cross-validation]

Prints the cross-validation by source (a model tested on each family of sources is trained without it), then fits the
shipped model to all data. The same data gives the same bytes.
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
    """Run the command."""
    arguments = _parse_arguments()
    lexicon = words.read_lexicon(HERE / "lexicon.txt")
    reader = FeatureExtractor(lexicon)
    external = corpus.read_prompts(arguments.data)
    own = corpus.read_prompts(sorted((HERE / "prompts").glob("*.jsonl")), corpus.OWN)
    print(f"{len(external)} external prompts, {len(own)} own prompts")
    features = [reader.extract_features(prompt.text) for prompt in [*external, *own]]
    if not arguments.no_cross_validation:
        cross_validate(external, own, features)
    started = time.monotonic()
    matrix = fitting.Matrix(features, OPTIONS)
    levels, types = _fit_model([*external, *own], matrix.build(features))
    weights = fitting.quantize_weights(matrix, levels, types, lexicon, OPTIONS)
    data = dump_weights(weights)
    arguments.out.write_bytes(data)
    print(
        f"{len(matrix.words)} words, {len(matrix.signs)} signs, {len(data):,} bytes, {time.monotonic() - started:.0f} s"
    )
    _check_weights([*external, *own], data)
    return 0


def cross_validate(external: list[corpus.Prompt], own: list[corpus.Prompt], features: list[Features]) -> np.ndarray:
    """Test each family with a model of the others and the own prompts; print a table, return the probabilities."""
    true = np.array([prompt.level for prompt in external])
    types = np.array([prompt.task_type for prompt in external])
    families = np.array([prompt.family for prompt in external])
    scores, type_scores = np.zeros((len(external), 4)), np.zeros((len(external), len(corpus.TYPES)))
    at = {id(prompt): row for row, prompt in enumerate([*external, *own])}
    print(scoring.HEAD)
    for family in sorted(set(families)):
        test_rows = np.flatnonzero(families == family)
        training = [external[row] for row in np.flatnonzero(families != family)]
        training += corpus.exclude_texts(own, [external[row] for row in test_rows])
        train_features = [features[at[id(prompt)]] for prompt in training]
        matrix = fitting.Matrix(train_features, OPTIONS)
        level_model, type_model = _fit_model(training, matrix.build(train_features))
        test_matrix = matrix.build([features[row] for row in test_rows])
        scores[test_rows] = fitting.predict_probabilities(
            test_matrix, level_model, OPTIONS.temperature, OPTIONS.traffic
        )
        type_scores[test_rows] = fitting.predict_probabilities(test_matrix, type_model)
        guess = scoring.choose_levels(scores[test_rows], UNDER_COST)
        print(scoring.format_line(family, true[test_rows], guess, types[test_rows], type_scores[test_rows].argmax(1)))
    languages = np.array([prompt.lang for prompt in external])
    for name, rows in (("all", languages != ""), ("en", languages == "en"), ("ru", languages == "ru")):
        for cost in (1.0, 1.5, UNDER_COST, 3.0):
            guess = scoring.choose_levels(scores[rows], cost)
            line = scoring.format_line(
                f"{name}, under_cost {cost:g}", true[rows], guess, types[rows], type_scores[rows].argmax(1)
            )
            print(line)
    return scores


def _fit_model(prompts: list[corpus.Prompt], matrix: object) -> tuple[np.ndarray, np.ndarray]:
    weight = np.array([OPTIONS.own if prompt.source == corpus.OWN else 1.0 for prompt in prompts])
    levels = np.array([prompt.level for prompt in prompts])
    types = np.array([prompt.task_type for prompt in prompts])
    return (
        fitting.fit_coefficients(matrix, levels, weight, OPTIONS, len(corpus.LEVELS)),
        fitting.fit_coefficients(matrix, types, weight, OPTIONS, len(corpus.TYPES)),
    )


def _check_weights(prompts: list[corpus.Prompt], data: bytes) -> None:
    """Print accuracy and speed of the written weights on their training data, through the run-time classifier."""
    classifier = Classifier(cache_size=0, weights=parse_weights(data))
    classifier.classify("warm")
    guess, took = [], []
    for prompt in prompts:
        started = time.perf_counter()
        classification = classifier.classify(prompt.text)
        took.append((time.perf_counter() - started) * 1e6)
        guess.append(int(classification.level))
    true = np.array([prompt.level for prompt in prompts])
    print(scoring.format_line("seen in training", true, np.array(guess)))
    print(f"mean {np.mean(took):.0f} µs, median {np.median(took):.0f}, p99 {np.percentile(took, 99):.0f}")


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="+", type=Path, help="labelled prompts, one JSON object a line")
    parser.add_argument(
        "--out", type=Path, default=WEIGHTS, help="where to write the weights (default: into the package)"
    )
    parser.add_argument("--no-cross-validation", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
