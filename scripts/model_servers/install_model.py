"""The tiny model that every server serves in the tests, made here from nothing in a second."""

import sys
from pathlib import Path

from recipe import HERE, Candidate, Installation, Receipt, make_key

MAKER = HERE / "tiny_model.py"


def list_candidates() -> list[Candidate]:
    return [Candidate("the tiny model", make_key(MAKER, Path(__file__)), _make)]


def _make(installation: Installation) -> Receipt:
    folder = installation.folder / "tiny"
    output = installation.run(sys.executable, MAKER, folder)
    return Receipt(output.strip().splitlines()[-1], str(folder))
