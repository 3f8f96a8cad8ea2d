"""The tiny model that every server serves in the tests, made here from nothing in a second."""

import sys
from pathlib import Path

from recipe import HERE, Candidate, Place, Receipt, make_key

MAKER = HERE / "tiny_model.py"


def list_candidates() -> list[Candidate]:
    return [Candidate("the tiny model", make_key(MAKER, Path(__file__)), _make)]


def _make(place: Place) -> Receipt:
    folder = place.folder / "tiny"
    output = place.run(sys.executable, MAKER, folder)
    return Receipt(output.strip().splitlines()[-1], str(folder))
