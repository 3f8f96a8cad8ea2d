"""Weights of the classifier, in memory and as a file.

In memory a feature's weights for all eleven outputs, and a 1 that counts the feature, are packed into one integer, 32
bits each. Adding up the features of a text is then one `sum` over dictionary look-ups; its result is unpacked once. The
file holds the same integers, compressed: the empty bits take no space there.
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
"""Added to each weight, so that sums never borrow from their neighbours; subtracted again by the count."""
MAX_STEP = 127
_RECORD = struct.Struct(f"<{OUTPUTS + 1}I")
_COLUMNS = range(0, _RECORD.size, 4)
"""Offsets of the bytes of a record that are not always zero."""
_MAGIC = b"PSTKCLF1"


@dataclass(frozen=True, slots=True)
class Table:
    """Weights of one kind of feature: packed integers, and the value of one unit for each output."""

    packed: Mapping[str, int]
    units: tuple[float, ...]

    def sum_outputs(self, keys: Iterable[str]) -> list[float]:
        """Return the eleven outputs summed over the features; unknown ones add 0."""
        total = sum(map(self.packed.get, keys, repeat(0)))
        *fields, known = _RECORD.unpack(total.to_bytes(_RECORD.size, "little"))
        shift = OFFSET * known
        return [(field - shift) * unit for field, unit in zip(fields, self.units, strict=True)]


@dataclass(frozen=True, slots=True)
class Weights:
    """Result of training."""

    words: Table
    signs: Table
    lexicon: Lexicon


def pack_weights(weights: Sequence[float], units: Sequence[float]) -> int:
    """Pack the weights of one feature into an integer, each rounded to a multiple of its unit."""
    steps = [max(-MAX_STEP, min(MAX_STEP, round(weight / unit))) for weight, unit in zip(weights, units, strict=True)]
    return int.from_bytes(_RECORD.pack(*(step + OFFSET for step in steps), 1), "little")


def dump_weights(weights: Weights) -> bytes:
    """Return the bytes of the file. Equal weights always give equal bytes."""
    words, signs, lexicon = weights.words, weights.signs, weights.lexicon
    header: dict[str, Any] = {
        "units": [words.units, signs.units],
        "words": "\n".join(words.packed),
        "signs": "\n".join(signs.packed),
        "whole": _dump_lexicon_part(lexicon.words),
        "beginnings": _dump_lexicon_part(lexicon.prefixes),
    }
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    numbers = [*words.packed.values(), *signs.packed.values()]
    rows = b"".join(number.to_bytes(_RECORD.size, "little") for number in numbers)
    columns = b"".join(rows[start :: _RECORD.size] for start in _COLUMNS)
    return _MAGIC + zlib.compress(struct.pack("<I", len(text)) + text + columns, 9)


def parse_weights(data: bytes) -> Weights:
    """Read the bytes of a file. Raises ValueError if they are not weights."""
    if not data.startswith(_MAGIC):
        raise ValueError(
            "The file does not contain weights of the classifier. Train them again with training/train.py."
        )
    body = zlib.decompress(data[len(_MAGIC) :])
    (size,) = struct.unpack_from("<I", body)
    header = json.loads(body[4 : 4 + size])
    words, signs = header["words"].split("\n"), header["signs"].split("\n")
    numbers = _join_columns(body[4 + size :], len(words) + len(signs))
    word_units, sign_units = header["units"]
    return Weights(
        words=Table(dict(zip(words, numbers, strict=False)), tuple(word_units)),
        signs=Table(dict(zip(signs, numbers[len(words) :], strict=True)), tuple(sign_units)),
        lexicon=Lexicon(_parse_lexicon_part(header["whole"]), _parse_lexicon_part(header["beginnings"])),
    )


def load_weights_file(path: Path) -> Weights:
    """Read the weights from a file."""
    return parse_weights(path.read_bytes())


def _join_columns(columns: bytes, height: int) -> list[int]:
    """Return the packed integers of a table that is stored column by column."""
    width = _RECORD.size
    rows = bytearray(height * width)
    for column, start in enumerate(_COLUMNS):
        rows[start::width] = columns[column * height : (column + 1) * height]
    return [int.from_bytes(rows[start : start + width], "little") for start in range(0, len(rows), width)]


def _dump_lexicon_part(part: Mapping[str, LexiconEntry]) -> str:
    return "\n".join(
        f"{word}\t{entry.token}\t{' '.join(entry.topics)}\t{entry.is_action:d}" for word, entry in part.items()
    )


def _parse_lexicon_part(plain: str) -> dict[str, LexiconEntry]:
    part = {}
    for line in plain.split("\n"):
        word, token, topics, is_action = line.split("\t")
        part[word] = LexiconEntry(token, tuple(topics.split()), is_action == "1")
    return part
