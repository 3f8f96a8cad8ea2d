"""Log lines: one event is one line, whatever strangers put into it, and tracebacks are bounded."""

import logging
import sys

import msgspec
import pytest

from penstock import log_format
from penstock.log_format import JsonFormatter, TextFormatter, TracebackLimit

HOSTILE = "a\x1b[31m\x85b\u2028c\u2029\r\n\x00\u202ed\ud800e\x9b"


def create_record(message: str, *, at: float = 0.0, traceback: bool = False) -> logging.LogRecord:
    exc_info = None
    if traceback:
        try:
            raise ValueError(HOSTILE)
        except ValueError:
            exc_info = sys.exc_info()
    record = logging.LogRecord("penstock", logging.INFO, "file.py", 7, "%s", (message,), exc_info)
    record.created = at
    return record


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_control_characters_are_escaped(formatter: logging.Formatter):
    line = formatter.format(create_record(HOSTILE))
    assert len(line.splitlines()) == 1
    assert line.isprintable()
    line.encode()


def test_json_lines_stay_json():
    event = msgspec.json.decode(JsonFormatter().format(create_record(HOSTILE)))
    assert event["message"] == HOSTILE.replace("\ud800", "\ufffd")


def test_a_traceback_keeps_its_lines_and_escapes_the_rest():
    text = TextFormatter().format(create_record("x", traceback=True))
    assert all(line.isprintable() for line in text.split("\n"))
    assert "ValueError" in text
    assert len(text.split("\n")) > 3


def test_tracebacks_from_one_place_are_bounded():
    limit = TracebackLimit()
    written = [limit.filter(create_record("x", at=float(second), traceback=True)) for second in range(300)]
    assert log_format.MAX_TRACEBACKS <= sum(written) <= log_format.MAX_TRACEBACKS + 5
    assert all(limit.filter(create_record("x")) for _ in range(300))
