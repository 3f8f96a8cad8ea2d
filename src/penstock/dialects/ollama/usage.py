"""Token counts and the last line of Ollama's responses."""

import re

import msgspec

from penstock.dialects.json_body import TokenCount
from penstock.domain.response import Usage

_COUNT = re.compile(rb'"(total_duration|load_duration|(?:prompt_)?eval_(?:count|duration))":(\d{1,18})(?!\d)')


class LastLine(msgspec.Struct, gc=False):
    """Fields of the last line. Durations are nanoseconds."""

    done: bool = False
    status: str = ""
    error: msgspec.Raw = msgspec.Raw()
    total_duration: int = 0
    load_duration: int = 0
    prompt_eval_count: TokenCount = 0
    prompt_eval_duration: int = 0
    eval_count: TokenCount = 0
    eval_duration: int = 0


_decoder = msgspec.json.Decoder(LastLine)


def parse_usage(tail: bytes, streamed: bool) -> Usage | None:
    """Parse the token counts of a stream's tail or of a complete body.

    Raises msgspec.DecodeError if such a body is not JSON.
    """
    try:
        last = _parse_last_line(tail) if streamed else _decoder.decode(tail)
    except msgspec.ValidationError:
        return None  # JSON, but not Ollama's: the client gets it all the same
    if not last.prompt_eval_count and not last.eval_count:
        return None
    return Usage(
        prompt_tokens=last.prompt_eval_count,
        completion_tokens=last.eval_count,
        load_seconds=last.load_duration / 1e9,
        prompt_seconds=last.prompt_eval_duration / 1e9,
        completion_seconds=last.eval_duration / 1e9,
        total_seconds=last.total_duration / 1e9,
    )


def is_stream_complete(tail: bytes) -> bool:
    """Return whether the last line ends the stream: it is `done`, reports success, or reports an error."""
    last = _parse_last_line(tail)
    return last.done or last.status == "success" or len(last.error) > 0


def _parse_last_line(tail: bytes) -> LastLine:
    """Parse the last line. If its beginning is cut off (a long `context`), search for the numbers.

    The numbers come last, and inside a text their quotes would be escaped.
    """
    line = tail.rstrip(b"\n").rpartition(b"\n")[2]
    try:
        return _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        last = LastLine(done=line.endswith(b"}") and b'"done":true,"done_reason":' in line)
        for name, number in _COUNT.findall(line):
            if not name.endswith(b"_count") or len(number) <= 9:
                setattr(last, name.decode(), int(number))
        return last
