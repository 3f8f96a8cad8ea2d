"""Reads `lexicon.txt`."""

from pathlib import Path

from penstock.gateway.routing.complexity.features import Lexicon, LexiconEntry

Part = dict[str, list[str]]


def read(path: Path) -> Lexicon:
    """The lexicon; a word that stands under two names keeps the first, topics keep all."""
    parts: dict[str, Part] = {}
    part: Part = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            part = parts.setdefault(line.strip("[] "), {})
        elif ":" in line and not line.startswith("#"):
            name, _, words = line.partition(":")
            for word in words.lower().replace("ё", "е").split():
                part.setdefault(word, []).append(name.strip())
    entries = dict.fromkeys(word for part in parts.values() for word in part)
    return Lexicon(
        words={word: _word(parts, word) for word in entries if not word.endswith("*")},
        prefixes={word[:-1]: _word(parts, word[:-1]) for word in entries if word.endswith("*")},
    )


def _word(parts: dict[str, Part], word: str) -> LexiconEntry:
    """What a word, or all words with this beginning, says in each part of the lexicon."""
    act, meaning, topics = (_longest(parts[name], word) for name in ("acts", "meanings", "topics"))
    names = act or meaning
    return LexiconEntry(f"<{names[0]}>" if names else "", tuple(dict.fromkeys(topics)), bool(act))


def _longest(part: Part, word: str) -> list[str]:
    if word in part:
        return part[word]
    beginnings = (word[:length] + "*" for length in range(len(word), 2, -1))
    return next((part[beginning] for beginning in beginnings if beginning in part), [])
