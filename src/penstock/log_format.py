"""Logging: one event a line, as text or JSON, to standard error and, where set, to a file."""

import logging
import sys
import time
from pathlib import Path

import msgspec

STANDARD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({})))


class JsonLines(logging.Formatter):
    """Each record as one JSON object; what was given as `extra` becomes keys of it."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        event = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        event |= {key: str(value) for key, value in vars(record).items() if key not in STANDARD_ATTRIBUTES}
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(event).decode()


class TextLines(logging.Formatter):
    """`2026-01-31 12:00:00 INFO - message`; line breaks inside are escaped, tracebacks follow."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s - %(message)s", "%Y-%m-%d %H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (its name in logging)
        """One line."""
        return super().formatMessage(record).replace("\r", "\\r").replace("\n", "\\n")


def configure_logging(style: str, level: str, file: Path | None) -> None:
    """Set the root logger up. `style` is text or json, `level` a name such as info."""
    formatter = JsonLines() if style == "json" else TextLines()
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if file is not None:
        handlers.append(logging.FileHandler(file, encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=handlers, force=True)
    for quiet in ("uvicorn.error", "asyncio"):
        logging.getLogger(quiet).setLevel(logging.WARNING)
