"""What the classifier sees in a text: names of features, the same in training and at run time.

Words of English and Russian that mean the same share a feature (the lexicon says which); what is not in the lexicon
is cut to its beginning, which is stemming enough for both languages. Keys are strings; one that the weights do not
know costs a look-up.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

HEAD_CHARS = 500
TAIL_CHARS = 250
ASK_WORDS = 10
"""Words at the beginning that are taken for the request itself; a long text is a request and what it is about."""
LAST_WORDS = 8
MEMO = 20_000
_LONGEST_PREFIX = 10
_LINES_WITHIN = 20_000
_SHORTEST_PREFIX = 3

_TOKEN = re.compile(r"[^\W_]+(?:['’.+#/-][^\W_]+)*(?:\+\+|#)?")
_NAME = re.compile(r" [A-ZА-ЯЁ]")
_ITEM = re.compile(r"\n\s*(?:[-*•]|\(?\w{1,2}[.)])\s")
_ENDS = (". ", "? ", "! ", ".\n", "?\n", "!\n")
_CODE = "{}[]();=<>|&*#"
_MATHS = "$^\\=√∫∑∈≤≥"
_IDENTIFIERS = ("_", "()", "::", "->", ");")
_MARKS = ("```", "`", "http", "«", '"', ":", ":\n", "___", ">>>", "...")
STEP = "≥"
"""Between the name and the number of a sign that counts; training gives each number up to it a weight of its own."""


class Word(NamedTuple):
    """What one word says: its shared name or stem, the topics that it belongs to, and whether it asks for an act.

    In a lexicon an empty token stands for the word's own stem.
    """

    token: str
    topics: tuple[str, ...]
    act: bool


class Features(NamedTuple):
    """`words` weigh by one over the root of their number, `signs` as they are."""

    words: set[str]
    signs: list[str]


@dataclass(frozen=True, slots=True)
class Lexicon:
    """What whole words say, and words that begin so; the longest beginning counts."""

    whole: Mapping[str, Word]
    beginnings: Mapping[str, Word]

    def word(self, word: str) -> Word:
        """What a lower-case word says."""
        found = self.whole.get(word)
        if found is None:
            beginning = self.beginnings.get
            for length in range(min(len(word), _LONGEST_PREFIX), _SHORTEST_PREFIX - 1, -1):
                found = beginning(word[:length])
                if found is not None:
                    break
            else:
                return Word(f"#{min(len(word), 4)}" if word[0].isdigit() else stem(word), (), False)
        return found if found.token else Word(stem(word), found.topics, found.act)


def stem(word: str) -> str:
    """The beginning of a word: endings of both languages are shorter than what is cut off from a long word."""
    size = len(word)
    if size <= 4:
        return word
    return word[: 4 if size <= 5 else 5 if size <= 7 else 6]


def clip(text: str) -> str:
    """Head and tail of a long text; whatever follows costs no more than this."""
    if len(text) <= HEAD_CHARS + TAIL_CHARS:
        return text
    return f"{text[:HEAD_CHARS]}\n{text[-TAIL_CHARS:]}"


class Reader:
    """Turns texts into features; remembers what words say, which changes nothing but its speed."""

    def __init__(self, lexicon: Lexicon) -> None:
        self._lexicon = lexicon
        self._known: dict[str, Word] = {}

    def read(self, text: str) -> Features:
        """The features of a text of any length and content."""
        clipped = clip(text)
        words = self._words(clipped.lower().replace("ё", "е"))
        tokens = [word.token for word in words]
        body = set(tokens)
        body.update(map(" ".join, pairwise(tokens)))
        signs = _shape(text, clipped, tokens)
        signs += _ask(tokens)
        signs += _work(words, len(clipped))
        return Features(body, signs)

    def _words(self, lowered: str) -> list[Word]:
        known = self._known
        found = []
        for token in _TOKEN.findall(lowered):
            word = known.get(token)
            if word is None:
                word = self._lexicon.word(token)
                if len(known) >= MEMO:
                    known.clear()
                known[token] = word
            found.append(word)
        return found


def _ask(tokens: list[str]) -> Iterable[str]:
    """The request itself: its first words in their order, and its last ones where the text is long."""
    head = tokens[:ASK_WORDS]
    signs = [f"^{token}" for token in dict.fromkeys(head)]
    signs += [f"^{one} {two}" for one, two in pairwise(head)]
    signs.append(f"1 {head[0]}" if head else "1")
    signs.append("1 " + " ".join(head[:3]))
    if len(tokens) > 3 * LAST_WORDS:
        signs += [f"${token}" for token in dict.fromkeys(tokens[-LAST_WORDS:])]
    return signs


def _work(words: list[Word], size: int) -> Iterable[str]:
    """How many things are to be done, on what, and whether the matter is advanced."""
    acts = dict.fromkeys(word.token for word in words if word.act)
    topics: dict[str, int] = {}
    for word in words:
        for topic in word.topics:
            topics[topic] = topics.get(topic, 0) + 1
    weight = sum(topics.values())
    long = "s" if size < 60 else "m" if size < 200 else "l"
    signs = [f"a:{act}" for act in acts]
    first = next(iter(acts), "")
    signs.append(f"a1:{first}{long}")
    signs += (_step("a", len(acts)), _step("t", weight), _step("tt", len(topics)))
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


def _shape(text: str, clipped: str, tokens: list[str]) -> list[str]:
    """What the text looks like: sizes, punctuation, code, formulas, lists."""
    size, words = len(clipped), len(tokens)
    count = clipped.count
    lines = text.count("\n", 0, _LINES_WITHIN)
    signs = [
        "0",
        _step("L", _log(len(text)), 24),
        _step("W", _log(words), 16),
        _step("q", count("?"), 4),
        _step("c", count(","), 10),
        _step("s", sum(map(count, _ENDS)), 8),
        _step("n", _log(lines), 12),
        _step("i", len(_ITEM.findall(clipped)) if lines else 0),
        _step("d", _log(sum(token[0] == "#" for token in tokens)), 10),
        _step("k", sum(map(count, _CODE)) * 40 // (size + 20), 12),
        _step("N", len(_NAME.findall(clipped)), 6),
        _step("m", _log(sum(map(count, _MATHS)))),
        _step("e", _log(sum(map(count, _IDENTIFIERS)))),
        _step("w", max(0, size * 2 // words - 6) if words else 0, 12),
    ]
    stripped = clipped.strip()
    if stripped:
        last = stripped[-1]
        signs.append("za" if last.isalnum() else f"z{last}")
        signs.append("up" if stripped[0].isupper() else "low")
    signs += [f"!{at}" for at, mark in enumerate(_MARKS) if mark in clipped]
    return signs


def _step(name: str, number: int, most: int = 8) -> str:
    """That there are at least so many."""
    return f"{name}{STEP}{min(most, number)}"


def _log(number: int) -> int:
    """Twice the binary logarithm and one, whole."""
    if number <= 0:
        return 0
    bits = number.bit_length()
    return 2 * bits - (number < 3 << bits >> 2)
