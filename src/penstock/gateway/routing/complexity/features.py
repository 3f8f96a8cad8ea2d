"""Features of a text for the classifier, by name; the same code runs in training.

Words of English and Russian that mean the same share a feature, defined in the lexicon. Words that are not in the
lexicon are cut to a prefix, which is sufficient stemming for both languages. Feature names are strings; a name without
weights costs one dictionary look-up.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

HEAD_CHARS = 500
TAIL_CHARS = 250
REQUEST_WORDS = 10
"""Words at the beginning that are taken for the request itself. The rest of a long text is its material."""
LAST_WORDS = 8
MAX_CACHED_WORDS = 20_000
_MAX_PREFIX = 10
_MAX_LINE_COUNT_CHARS = 20_000
_MIN_PREFIX = 3

_TOKEN = re.compile(r"[^\W_]+(?:['’.+#/-][^\W_]+)*(?:\+\+|#)?")
_NAME = re.compile(r" [A-ZА-ЯЁ]")
_ITEM = re.compile(r"\n\s*(?:[-*•]|\(?\w{1,2}[.)])\s")
_ENDS = (". ", "? ", "! ", ".\n", "?\n", "!\n")
_CODE = "{}[]();=<>|&*#"
_MATHS = "$^\\=√∫∑∈≤≥"
_IDENTIFIERS = ("_", "()", "::", "->", ");")
_MARKS = ("```", "`", "http", "«", '"', ":", ":\n", "___", ">>>", "...")
COUNT_SEPARATOR = "≥"
"""Separates name and number of a feature that counts. Training gives each number up to it its own weight."""


class LexiconEntry(NamedTuple):
    """Meaning of a word: its shared name or stem, its topics, and whether it asks for an action.

    In a lexicon an empty token stands for the word's own stem.
    """

    token: str
    topics: tuple[str, ...]
    is_action: bool


class Features(NamedTuple):
    """Features of a text. `words` are weighted by one over the root of their number, `signs` by one."""

    words: set[str]
    signs: list[str]


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Meanings of whole words and of prefixes. The longest prefix that matches counts."""

    words: Mapping[str, LexiconEntry]
    prefixes: Mapping[str, LexiconEntry]

    def look_up(self, word: str) -> LexiconEntry:
        """Return the meaning of a lower-case word."""
        entry = self.words.get(word)
        if entry is None:
            find_prefix = self.prefixes.get
            for length in range(min(len(word), _MAX_PREFIX), _MIN_PREFIX - 1, -1):
                entry = find_prefix(word[:length])
                if entry is not None:
                    break
            else:
                return LexiconEntry(f"#{min(len(word), 4)}" if word[0].isdigit() else stem_word(word), (), False)
        return entry if entry.token else LexiconEntry(stem_word(word), entry.topics, entry.is_action)


def stem_word(word: str) -> str:
    """Return a prefix of a word. Endings of both languages are shorter than what is cut off from a long word."""
    size = len(word)
    if size <= 4:
        return word
    return word[: 4 if size <= 5 else 5 if size <= 7 else 6]


def clip_text(text: str) -> str:
    """Cut a long text to its beginning and end. This bounds the time of all that follows."""
    if len(text) <= HEAD_CHARS + TAIL_CHARS:
        return text
    return f"{text[:HEAD_CHARS]}\n{text[-TAIL_CHARS:]}"


class FeatureExtractor:
    """Extracts features from texts, with a cache of words."""

    def __init__(self, lexicon: Lexicon) -> None:
        self._lexicon = lexicon
        self._entries: dict[str, LexiconEntry] = {}

    def extract_features(self, text: str) -> Features:
        """Return the features of a text of any length and content."""
        clipped = clip_text(text)
        words = self._look_up_words(clipped.lower().replace("ё", "е"))
        tokens = [word.token for word in words]
        body = set(tokens)
        body.update(map(" ".join, pairwise(tokens)))
        signs = _extract_shape(text, clipped, tokens)
        signs += _extract_request(tokens)
        signs += _extract_actions(words, len(clipped))
        return Features(body, signs)

    def _look_up_words(self, lowered: str) -> list[LexiconEntry]:
        cache = self._entries
        entries = []
        for word in _TOKEN.findall(lowered):
            entry = cache.get(word)
            if entry is None:
                entry = self._lexicon.look_up(word)
                if len(cache) >= MAX_CACHED_WORDS:
                    cache.clear()
                cache[word] = entry
            entries.append(entry)
        return entries


def _extract_request(tokens: list[str]) -> Iterable[str]:
    """Extract the request itself: its first words in order, and the last ones of a long text."""
    head = tokens[:REQUEST_WORDS]
    signs = [f"^{token}" for token in dict.fromkeys(head)]
    signs += [f"^{first} {second}" for first, second in pairwise(head)]
    signs.append(f"1 {head[0]}" if head else "1")
    signs.append("1 " + " ".join(head[:3]))
    if len(tokens) > 3 * LAST_WORDS:
        signs += [f"${token}" for token in dict.fromkeys(tokens[-LAST_WORDS:])]
    return signs


def _extract_actions(words: list[LexiconEntry], size: int) -> Iterable[str]:
    """Extract the actions that are asked for, their number, and the topics."""
    actions = dict.fromkeys(word.token for word in words if word.is_action)
    topics: dict[str, int] = {}
    for word in words:
        for topic in word.topics:
            topics[topic] = topics.get(topic, 0) + 1
    weight = sum(topics.values())
    long = "s" if size < 60 else "m" if size < 200 else "l"
    signs = [f"a:{action}" for action in actions]
    first = next(iter(actions), "")
    signs.append(f"a1:{first}{long}")
    signs += (_name_count("a", len(actions)), _name_count("t", weight), _name_count("tt", len(topics)))
    for topic, count in topics.items():
        signs.append(f"t:{topic}")
        signs.append(f"t:{first}:{topic}")
        if count > 1:
            signs.append(f"t2:{topic}")
        if count > 3:
            signs.append(f"t4:{topic}")
    if words:
        dense = weight * 4 // len(words)
        signs.append(f"td:{dense}{long}")
    return signs


def _extract_shape(text: str, clipped: str, tokens: list[str]) -> list[str]:
    """Extract the shape of the text: sizes, punctuation, code, formulas, lists."""
    size, words = len(clipped), len(tokens)
    count = clipped.count
    lines = text.count("\n", 0, _MAX_LINE_COUNT_CHARS)
    signs = [
        "0",
        _name_count("L", _double_log2(len(text)), 24),
        _name_count("W", _double_log2(words), 16),
        _name_count("q", count("?"), 4),
        _name_count("c", count(","), 10),
        _name_count("s", sum(map(count, _ENDS)), 8),
        _name_count("n", _double_log2(lines), 12),
        _name_count("i", len(_ITEM.findall(clipped)) if lines else 0),
        _name_count("d", _double_log2(sum(token[0] == "#" for token in tokens)), 10),
        _name_count("k", sum(map(count, _CODE)) * 40 // (size + 20), 12),
        _name_count("N", len(_NAME.findall(clipped)), 6),
        _name_count("m", _double_log2(sum(map(count, _MATHS)))),
        _name_count("e", _double_log2(sum(map(count, _IDENTIFIERS)))),
        _name_count("w", max(0, size * 2 // words - 6) if words else 0, 12),
    ]
    stripped = clipped.strip()
    if stripped:
        last = stripped[-1]
        signs.append("za" if last.isalnum() else f"z{last}")
        signs.append("up" if stripped[0].isupper() else "low")
    signs += [f"!{at}" for at, mark in enumerate(_MARKS) if mark in clipped]
    return signs


def _name_count(name: str, number: int, limit: int = 8) -> str:
    """Return the name of a count, capped at `limit`."""
    return f"{name}{COUNT_SEPARATOR}{min(limit, number)}"


def _double_log2(number: int) -> int:
    """Return twice the binary logarithm plus one, rounded down."""
    if number <= 0:
        return 0
    bits = number.bit_length()
    return 2 * bits - (number < 3 << bits >> 2)
