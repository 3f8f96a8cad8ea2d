"""Log format: one event per line, as text or JSON, to standard error and optionally to a file."""

import logging
import re
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

STANDARD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({})))
"""Attributes of every log record; all others were passed as `extra`."""


MAX_TRACEBACKS = 10.0
TRACEBACK_INTERVAL = 60.0
"""Seconds."""
_CONTROL_CHARACTERS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that a terminal or a viewer obeys (line breaks, escape sequences, directions), and half characters."""
_LONE_SURROGATES = re.compile("[\ud800-\udfff]")
_NAMED_ESCAPES = {"\r": "\\r", "\n": "\\n", "\t": "\\t"}


class JsonFormatter(logging.Formatter):
    """Formatter of each record as one JSON object; attributes passed as `extra` become keys of it."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as one line."""
        event = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        event |= {key: str(value) for key, value in vars(record).items() if key not in STANDARD_ATTRIBUTES}
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        encoded = msgspec.json.encode({key: _LONE_SURROGATES.sub("\ufffd", text) for key, text in event.items()})
        return _CONTROL_CHARACTERS.sub(lambda match: f"\\u{ord(match[0]):04x}", encoded.decode())


class TextFormatter(logging.Formatter):
    """Formatter of lines as `2026-01-31 12:00:00 INFO - message`; control characters are escaped, tracebacks follow."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s - %(message)s", "%Y-%m-%d %H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (overrides logging)
        """Format the message part of a record."""
        return escape_control_characters(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 (overrides logging)
        """Format a traceback; its lines stay lines."""
        return "\n".join(map(escape_control_characters, super().formatException(ei).split("\n")))


def escape_control_characters(text: str) -> str:
    """Return the text with every character escaped that could end the line or command a terminal."""
    return _CONTROL_CHARACTERS.sub(_escape_character, text)


def _escape_character(match: re.Match[str]) -> str:
    character = match[0]
    return _NAMED_ESCAPES.get(character) or (
        f"\\x{ord(character):02x}" if character < "\x80" else f"\\u{ord(character):04x}"
    )


class TracebackLimit(logging.Filter):
    """Bound on the records with tracebacks from one place in the code: others could fill the log with their requests.

    After the first MAX_TRACEBACKS of a place there is one in each TRACEBACK_INTERVAL; the others are dropped.
    """

    def __init__(self) -> None:
        super().__init__()
        self._allowances: dict[tuple[str, int], tuple[float, float]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is to be written."""
        if not record.exc_info:
            return True
        place = (record.pathname, record.lineno)
        left, since = self._allowances.get(place, (MAX_TRACEBACKS, record.created))
        left = min(MAX_TRACEBACKS, left + (record.created - since) / TRACEBACK_INTERVAL)
        may_write = left >= 1
        self._allowances[place] = (left - may_write, record.created)
        return may_write


def configure_logging(log_format: str, level: str, file: Path | None) -> None:
    """Configure the root logger. `log_format` is text or json, `level` a name such as info."""
    formatter = JsonFormatter() if log_format == "json" else TextFormatter()
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if file is not None:
        handlers.append(logging.FileHandler(file, encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(formatter)
        handler.addFilter(TracebackLimit())
    logging.basicConfig(level=level.upper(), handlers=handlers, force=True)
    for name in ("uvicorn.error", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
