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

from penstock.gateway.routing.complexity.features import Lexicon, LexiconEntry

LEVELS = 4
TYPES = 7
OUTPUTS = LEVELS + TYPES
OFFSET = 128
"""Added to each weight in the file, so that sums never borrow from their neighbours; the count takes it off again."""
MAX_STEP = 127
_RECORD = struct.Struct(f"<{OUTPUTS + 1}I")
_COLUMNS = range(0, _RECORD.size, 4)
"""The bytes of a record that are not always zero."""
_MAGIC = b"PSTKCLF1"


@dataclass(frozen=True, slots=True)
class Table:
    """Weights of one kind of features: packed integers, and what one unit of each output is worth."""

    packed: Mapping[str, int]
    units: tuple[float, ...]

    def sum_outputs(self, keys: Iterable[str]) -> list[float]:
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


def pack_weights(weights: Sequence[float], units: Sequence[float]) -> int:
    """One feature's weights as an integer, each rounded to a multiple of its unit."""
    steps = [max(-MAX_STEP, min(MAX_STEP, round(weight / unit))) for weight, unit in zip(weights, units, strict=True)]
    return int.from_bytes(_RECORD.pack(*(step + OFFSET for step in steps), 1), "little")


def dump_weights(weights: Weights) -> bytes:
    """The file's bytes; the same weights always give the same bytes."""
    words, signs, lexicon = weights.words, weights.signs, weights.lexicon
    head: dict[str, Any] = {
        "units": [words.units, signs.units],
        "words": "\n".join(words.packed),
        "signs": "\n".join(signs.packed),
        "whole": _dump_lexicon_part(lexicon.words),
        "beginnings": _dump_lexicon_part(lexicon.prefixes),
    }
    text = json.dumps(head, ensure_ascii=False, separators=(",", ":")).encode()
    numbers = [*words.packed.values(), *signs.packed.values()]
    rows = b"".join(number.to_bytes(_RECORD.size, "little") for number in numbers)
    columns = b"".join(rows[start :: _RECORD.size] for start in _COLUMNS)
    return _MAGIC + zlib.compress(struct.pack("<I", len(text)) + text + columns, 9)


def parse_weights(data: bytes) -> Weights:
    """The inverse of `dump_weights`; raises ValueError where the bytes are no weights."""
    if not data.startswith(_MAGIC):
        raise ValueError("these are no weights of the classifier: train them again with training/train.py")
    body = zlib.decompress(data[len(_MAGIC) :])
    (size,) = struct.unpack_from("<I", body)
    head = json.loads(body[4 : 4 + size])
    words, signs = head["words"].split("\n"), head["signs"].split("\n")
    numbers = _join_columns(body[4 + size :], len(words) + len(signs))
    word_units, sign_units = head["units"]
    return Weights(
        words=Table(dict(zip(words, numbers, strict=False)), tuple(word_units)),
        signs=Table(dict(zip(signs, numbers[len(words) :], strict=True)), tuple(sign_units)),
        lexicon=Lexicon(_parse_lexicon_part(head["whole"]), _parse_lexicon_part(head["beginnings"])),
    )


def load_weights_file(path: Path) -> Weights:
    """The weights in a file."""
    return parse_weights(path.read_bytes())


def _join_columns(columns: bytes, height: int) -> list[int]:
    """The packed integers, from one column of bytes after another."""
    width = _RECORD.size
    rows = bytearray(height * width)
    for at, start in enumerate(_COLUMNS):
        rows[start::width] = columns[at * height : (at + 1) * height]
    whole = bytes(rows)
    return [int.from_bytes(whole[start : start + width], "little") for start in range(0, len(whole), width)]


def _dump_lexicon_part(part: Mapping[str, LexiconEntry]) -> str:
    return "\n".join(
        f"{word}\t{said.token}\t{' '.join(said.topics)}\t{said.is_action:d}" for word, said in part.items()
    )


def _parse_lexicon_part(plain: str) -> dict[str, LexiconEntry]:
    part = {}
    for line in plain.split("\n"):
        word, token, topics, act = line.split("\t")
        part[word] = LexiconEntry(token, tuple(topics.split()), act == "1")
    return part
