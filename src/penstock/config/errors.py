"""What is wrong with the settings: where, which key, and the nearest thing that would be right."""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_PLAIN_KEY = re.compile(r"[A-Za-z_][\w-]*")


@dataclass(frozen=True, slots=True)
class ConfigError:
    """One mistake; `source` is as in a provenance, `path` is empty where no key is concerned."""

    path: str
    source: str
    message: str

    def __str__(self) -> str:
        where = self.source.removeprefix("file ")
        return ": ".join(part for part in (where, self.path, self.message) if part)


class SettingsError(Exception):
    """The settings cannot be used; holds every mistake that was found, in reading order."""

    def __init__(self, errors: Iterable[ConfigError]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(map(str, self.errors)))


def format_key_path(parts: Sequence[str | int]) -> str:
    """``("models", "aliases", "llama3.1:8b", 0)`` as ``models.aliases["llama3.1:8b"][0]``."""
    text = ""
    for part in parts:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN_KEY.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += f'["{part}"]'
    return text


def find_nearest(name: str, names: Iterable[str]) -> str | None:
    """The name that was probably meant, if any comes near."""
    folded = {known.lower(): known for known in names}
    found = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def suggest_name(name: str, names: Sequence[str]) -> str:
    """The end of a sentence about a wrong name: the nearest right one, else all of them."""
    if close := find_nearest(name, names):
        return f'did you mean "{close}"?'
    return f"there are: {', '.join(names)}" if names else "nothing can be set here"
