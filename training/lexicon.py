"""Reader of `lexicon.txt`."""

from pathlib import Path

from penstock.gateway.routing.complexity.features import Lexicon, LexiconEntry

Part = dict[str, list[str]]


def read_lexicon(path: Path) -> Lexicon:
    """Read the lexicon. A word with several names keeps the first, but all of its topics."""
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
        words={word: _parse_word(parts, word) for word in entries if not word.endswith("*")},
        prefixes={word[:-1]: _parse_word(parts, word[:-1]) for word in entries if word.endswith("*")},
    )


def _parse_word(parts: dict[str, Part], word: str) -> LexiconEntry:
    """Return the entry of a word, or of all words with this prefix."""
    acts, meanings, topics = (_find_longest(parts[name], word) for name in ("acts", "meanings", "topics"))
    names = acts or meanings
    return LexiconEntry(f"<{names[0]}>" if names else "", tuple(dict.fromkeys(topics)), bool(acts))


def _find_longest(part: Part, word: str) -> list[str]:
    """Return the names of the word or of its longest prefix."""
    if word in part:
        return part[word]
    prefixes = (word[:length] + "*" for length in range(len(word), 2, -1))
    return next((part[prefix] for prefix in prefixes if prefix in part), [])
