"""Errors in the settings: location, key and, where possible, the nearest valid name."""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_PLAIN_KEY = re.compile(r"[A-Za-z_][\w-]*")


@dataclass(frozen=True, slots=True)
class ConfigError:
    """One error. `message` is a predicate whose subject is `path`, or the source where `path` is empty.

    `source` has the form of `EffectiveValue.source`.
    """

    path: str
    source: str
    message: str

    def __str__(self) -> str:
        location = self.source.removeprefix("file ")
        subject = f"{location}: {self.path}" if self.path else location
        sentence = f"{subject} {self.message}"
        return sentence if sentence.endswith((".", "?")) else f"{sentence}."


class SettingsError(Exception):
    """The settings are invalid. `errors` holds every error that was found, in reading order."""

    def __init__(self, errors: Iterable[ConfigError]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(map(str, self.errors)))


def format_key_path(parts: Sequence[str | int]) -> str:
    """Format ``("models", "aliases", "llama3.1:8b", 0)`` as ``models.aliases["llama3.1:8b"][0]``."""
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
    """Return the most similar of `names`, None when none is similar."""
    folded = {known.lower(): known for known in names}
    matches = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    return folded[matches[0]] if matches else None


def suggest_name(name: str, names: Sequence[str]) -> str:
    """Build the end of a sentence about an unknown name: the nearest known one, else all of them."""
    if close := find_nearest(name, names):
        return f'did you mean "{close}"?'
    return f"known keys are {', '.join(names)}" if names else "this section has no keys"
