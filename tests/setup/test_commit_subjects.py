"""Accepted and rejected subjects of commits."""

import pytest
from commit_subjects import find_problem


@pytest.mark.parametrize(
    "subject",
    [
        "routing: cache candidate lists per fleet snapshot",
        "model servers: pin by version and hash",
        "scripts/check: run in parallel",
        "http1: pass heads on",
    ],
)
def test_an_area_and_an_imperative_are_accepted(subject: str) -> None:
    assert find_problem(subject) == ""


@pytest.mark.parametrize(
    ("subject", "problem"),
    [
        ("Changes, told", "is not `area: imperative`, in lower case"),
        ("routing: Cache lists", "is not `area: imperative`, in lower case"),
        ("routing: cached lists", "'cached' is not an imperative"),
        ("routing: caching lists", "'caching' is not an imperative"),
        ("routing: caches lists", "'caches' is not an imperative"),
        (f"routing: cache {'x' * 60}", "75 characters, at most 72"),
    ],
)
def test_anything_else_is_refused_with_the_reason(subject: str, problem: str) -> None:
    assert find_problem(subject) == problem
