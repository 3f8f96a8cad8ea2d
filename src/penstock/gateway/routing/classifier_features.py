"""What the classifier sees in a text: names of features, the same in training and at run time.

Words of English and Russian that mean the same share a feature (the lexicon says which); what is not in the lexicon
is cut to its beginning, which is stemming enough for both languages. Keys are strings; one that the weights do not
know costs a look-up.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, TypeVar

HEAD_CHARS = 900
TAIL_CHARS = 400
ASK_WORDS = 10
"""Words at the beginning that are taken for the request itself; a long text is a request and what it is about."""
LAST_WORDS = 8
MEMO = 20_000
_T = TypeVar("_T")
_LONGEST_PREFIX = 10
_SHORTEST_PREFIX = 3

_TOKEN = re.compile(r"[^\W_]+(?:['’.+#/-][^\W_]+)*(?:\+\+|#)?")
_NUMBER = re.compile(r"\d+")
_NAME = re.compile(r"(?<=[\w,;:»\")] )[A-ZА-ЯЁ][\w-]+")
_SNAKE_CAMEL = re.compile(r"\b[a-z]+(?:_[a-z0-9]+)+\b|\b[a-z]+[A-Z]\w+\b|\w+\(\)|\w\.\w+\(")
_ITEM = re.compile(r"^\s*(?:[-*•]|\(?\w{1,2}[.)])\s", re.MULTILINE)
_SENTENCE = re.compile(r"[.!?…](?:\s|$)")
_MATHS = re.compile(r"\\[a-zA-Z]+|\$|[=<>≤≥∈∑∫√^]|\bx\b")
_LOGGED = re.compile(r"\b(?:error|exception|traceback|warning|failed|undefined)\b", re.IGNORECASE)
_CODE = frozenset("{}[]();=<>_\\|#$&*")


class Word(NamedTuple):
    """What one word says: its shared name or stem, the topics that it belongs to, and whether it asks for an act."""

    token: str
    topics: tuple[str, ...]
    act: bool


class Features(NamedTuple):
    """`words` weigh by one over the root of their number, `signs` as they are."""

    words: set[str]
    signs: list[str]


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Words and beginnings of words (ending in `*`) with their shared names."""

    acts: Mapping[str, str]
    meanings: Mapping[str, str]
    topics: Mapping[str, tuple[str, ...]]

    def word(self, word: str) -> Word:
        """What a lower-case word says."""
        if word[0].isdigit():
            return Word(f"#{min(len(word), 4)}", self.topics.get(word, ()), False)
        act = _longest(self.acts, word)
        meaning = act or _longest(self.meanings, word)
        topics = _longest(self.topics, word) or ()
        return Word(f"<{meaning}>" if meaning else stem(word), topics, act is not None)


def _longest(entries: Mapping[str, _T], word: str) -> _T | None:
    found = entries.get(word)
    if found is not None:
        return found
    for length in range(min(len(word), _LONGEST_PREFIX), _SHORTEST_PREFIX - 1, -1):
        found = entries.get(word[:length] + "*")
        if found is not None:
            return found
    return None


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
        signs = _shape(text, clipped, len(tokens))
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
    signs += _steps("a", len(acts))
    signs += _steps("t", weight)
    signs += _steps("tt", len(topics))
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


def _steps(name: str, number: int, most: int = 8) -> list[str]:
    """`name` at least 1, 2, 3 …: a number as features that a linear model can bend."""
    return _STEPS[name][: min(number, most)]


_STEPS = {
    name: [f"{name}>{step}" for step in range(1, 33)]
    for name in ("L", "W", "a", "t", "tt", "q", "c", "s", "n", "d", "i", "k", "N", "m", "w", "e", "x")
}


def _shape(text: str, clipped: str, words: int) -> list[str]:
    """What the text looks like: sizes, punctuation, code, formulas, lists."""
    size = len(clipped)
    count = clipped.count
    signs = ["0"]
    signs += _steps("L", _log(len(text)), 24)
    signs += _steps("W", _log(words), 16)
    signs += _steps("q", count("?"), 4)
    signs += _steps("c", count(","), 10)
    signs += _steps("s", len(_SENTENCE.findall(clipped)), 8)
    signs += _steps("n", _log(text[:20_000].count("\n")), 12)
    signs += _steps("d", _log(len(_NUMBER.findall(clipped))), 10)
    signs += _steps("i", len(_ITEM.findall(clipped)), 8)
    signs += _steps("k", sum(map(count, _CODE)) * 40 // (size + 20), 12)
    signs += _steps("N", len(_NAME.findall(clipped)), 6)
    signs += _steps("m", _log(len(_MATHS.findall(clipped))), 8)
    signs += _steps("e", _log(len(_SNAKE_CAMEL.findall(clipped))), 8)
    signs += _steps("x", _log(len(_LOGGED.findall(clipped))), 4)
    if words:
        signs += _steps("w", max(0, size * 2 // words - 6), 12)
    stripped = clipped.strip()
    if stripped:
        last = stripped[-1]
        signs.append(f"z{last}" if not last.isalnum() else "za")
        signs.append("up" if stripped[0].isupper() else "low")
    for sign, mark in (
        ("`", "```"),
        ("u", "http"),
        ("«", "«"),
        ('"', '"'),
        (":", ":"),
        (":n", ":\n"),
        ("__", "___"),
        (">>>", ">>>"),
    ):
        if mark in clipped:
            signs.append(f"!{sign}")
    return signs


def _log(number: int) -> int:
    """Twice the binary logarithm, whole."""
    if number <= 0:
        return 0
    bits = number.bit_length()
    return 2 * bits - (1 if number < (3 << bits) >> 2 else 0)
