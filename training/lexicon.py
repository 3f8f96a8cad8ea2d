"""Reads `lexicon.txt`."""

from pathlib import Path

from penstock.gateway.routing.classifier_features import Lexicon


def read(path: Path) -> Lexicon:
    """The lexicon; a word that stands under two names keeps the first, topics keep all."""
    parts: dict[str, dict[str, list[str]]] = {}
    part: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            part = parts.setdefault(line.strip("[] "), {})
        elif ":" in line and not line.startswith("#"):
            name, _, words = line.partition(":")
            for word in words.lower().replace("ё", "е").split():
                part.setdefault(word, []).append(name.strip())
    return Lexicon(
        acts={word: names[0] for word, names in parts["acts"].items()},
        meanings={word: names[0] for word, names in parts["meanings"].items()},
        topics={word: tuple(dict.fromkeys(names)) for word, names in parts["topics"].items()},
    )
