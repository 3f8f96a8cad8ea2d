"""The classifier's weights as a file and in memory.

In memory a feature's weights for all eleven outputs, and a one that counts the feature, stand side by side in one
integer, 32 bits each. Adding up a text's features is then one `sum` over look-ups, and what comes out is taken apart
once. The file holds the same integers, compressed: the empty bits cost nothing there.
"""

import json
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

from penstock.gateway.routing.classifier_features import Lexicon, Word

LEVELS = 4
TYPES = 7
OUTPUTS = LEVELS + TYPES
OFFSET = 128
"""Added to each weight in the file, so that sums never borrow from their neighbours; the count takes it off again."""
MOST = 127
_RECORD = struct.Struct(f"<{OUTPUTS + 1}I")
_MAGIC = b"PSTKCLF1"


@dataclass(frozen=True, slots=True)
class Table:
    """Weights of one kind of features: packed integers, and what one unit of each output is worth."""

    packed: Mapping[str, int]
    units: tuple[float, ...]

    def sums(self, keys: Iterable[str]) -> list[float]:
        """The eleven outputs summed over the keys; unknown ones weigh nothing."""
        total = sum(map(self.packed.get, keys, repeat(0)))
        *fields, known = _RECORD.unpack(total.to_bytes(_RECORD.size, "little"))
        shift = OFFSET * known
        return [(field - shift) * unit for field, unit in zip(fields, self.units, strict=True)]


@dataclass(frozen=True, slots=True)
class Weights:
    """All that training came to."""

    words: Table
    signs: Table
    lexicon: Lexicon


def pack(weights: Sequence[float], units: Sequence[float]) -> int:
    """One feature's weights as an integer, each rounded to a multiple of its unit."""
    steps = [max(-MOST, min(MOST, round(weight / unit))) for weight, unit in zip(weights, units, strict=True)]
    return int.from_bytes(_RECORD.pack(*(step + OFFSET for step in steps), 1), "little")


def dump(weights: Weights) -> bytes:
    """The file's bytes; the same weights always give the same bytes."""
    lexicon = weights.lexicon
    head: dict[str, Any] = {
        "words": [list(weights.words.units), len(weights.words.packed)],
        "signs": [list(weights.signs.units), len(weights.signs.packed)],
        "whole": _plain(lexicon.whole),
        "beginnings": _plain(lexicon.beginnings),
        "keys": "\n".join([*weights.words.packed, *weights.signs.packed]),
    }
    text = json.dumps(head, ensure_ascii=False, separators=(",", ":")).encode()
    numbers = [*weights.words.packed.values(), *weights.signs.packed.values()]
    columns = _turned(b"".join(number.to_bytes(_RECORD.size, "little") for number in numbers), _RECORD.size)
    return _MAGIC + zlib.compress(struct.pack("<I", len(text)) + text + columns, 9)


def load(data: bytes) -> Weights:
    """The inverse of `dump`; raises ValueError where the bytes are no weights."""
    if not data.startswith(_MAGIC):
        raise ValueError("these are no weights of the classifier: train them again with training/train.py")
    body = zlib.decompress(data[len(_MAGIC) :])
    (size,) = struct.unpack_from("<I", body)
    head = json.loads(body[4 : 4 + size])
    keys = head["keys"].split("\n")
    rows = _turned(body[4 + size :], len(keys))
    record = _RECORD.size
    numbers = [int.from_bytes(rows[start : start + record], "little") for start in range(0, len(rows), record)]
    (word_units, words), (sign_units, _) = head["words"], head["signs"]
    return Weights(
        words=Table(dict(zip(keys[:words], numbers[:words], strict=True)), tuple(word_units)),
        signs=Table(dict(zip(keys[words:], numbers[words:], strict=True)), tuple(sign_units)),
        lexicon=Lexicon(
            whole=_lexicon_part(head["whole"]),
            beginnings=_lexicon_part(head["beginnings"]),
        ),
    )


def _plain(part: Mapping[str, Word]) -> list[list[Any]]:
    return [[word, said.token, " ".join(said.topics), int(said.act)] for word, said in part.items()]


def _lexicon_part(plain: list[list[Any]]) -> dict[str, Word]:
    return {word: Word(token, tuple(topics.split()), bool(act)) for word, token, topics, act in plain}


def load_file(path: Path) -> Weights:
    """The weights in a file."""
    return load(path.read_bytes())


def _turned(table: bytes, width: int) -> bytes:
    """A table with `width` bytes a row, turned over: columns of like bytes compress well."""
    height = len(table) // width
    turned = bytearray(len(table))
    for column in range(width):
        turned[column * height : (column + 1) * height] = table[column::width]
    return bytes(turned)
