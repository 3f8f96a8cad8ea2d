"""The tiny model that every engine serves in the tests, made here from nothing in a second."""

import hashlib
import importlib.util
import sys
from pathlib import Path

from recipe import Place, Receipt, tools

MAKER = Path(__file__).with_name("tiny_model.py")
NEEDED = ("gguf", "numpy", "safetensors", "tokenizers")
RECIPE = hashlib.sha256(MAKER.read_bytes()).hexdigest()[:16]  # an edited maker makes the model again


def install(place: Place) -> Receipt:
    python: Path | str = sys.executable
    if not all(importlib.util.find_spec(name) for name in NEEDED):
        place.say(f"pip install {' '.join(NEEDED)}")
        python = tools(place, *NEEDED).program("python")
    folder = place.folder / "tiny"
    size = place.run(python, MAKER, folder).strip()
    return Receipt(RECIPE, size, str(folder))
