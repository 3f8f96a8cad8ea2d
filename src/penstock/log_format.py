"""Log format: one event per line, as text or JSON, to standard error and optionally to a file."""

import logging
import sys
import time
from pathlib import Path

import msgspec

STANDARD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({})))
"""Attributes of every log record; all others were passed as `extra`."""


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
        return msgspec.json.encode(event).decode()


class TextFormatter(logging.Formatter):
    """Formatter of lines as `2026-01-31 12:00:00 INFO - message`; line breaks are escaped, tracebacks follow."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s - %(message)s", "%Y-%m-%d %H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (overrides logging)
        """Format the message part of a record."""
        return super().formatMessage(record).replace("\r", "\\r").replace("\n", "\\n")


def configure_logging(log_format: str, level: str, file: Path | None) -> None:
    """Configure the root logger. `log_format` is text or json, `level` a name such as info."""
    formatter = JsonFormatter() if log_format == "json" else TextFormatter()
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if file is not None:
        handlers.append(logging.FileHandler(file, encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=handlers, force=True)
    for name in ("uvicorn.error", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
