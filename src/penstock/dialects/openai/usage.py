"""What OpenAI's endpoints share: how a body is checked, how tokens are counted in it, how ids are made."""

import re
from typing import Any, TypeVar

import msgspec

from penstock.domain.errors import InvalidRequest
from penstock.domain.response import Usage

T = TypeVar("T")

NULL = msgspec.Raw(b"null")  # what is not there
encode = msgspec.json.Encoder().encode
_PATH = re.compile(r"^(?P<what>.*?) - at `\$\.?(?P<path>[^`]*)`$", re.DOTALL)
_FIELD = re.compile(r"field `(?P<name>[^`]*)`")


class StreamOptions(msgspec.Struct):
    """What a caller asks of the stream itself."""

    include_usage: bool | None = None


class TokenDetails(msgspec.Struct):
    """Of both kinds of tokens; each has its own member."""

    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class UsageObject(msgspec.Struct):
    """`usage` as OpenAI's API and its imitators write it."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: TokenDetails | None = None
    completion_tokens_details: TokenDetails | None = None


class Timings(msgspec.Struct):
    """llama.cpp's `timings`: tokens taken from the cache, read anew and written, and milliseconds."""

    cache_n: int = 0
    prompt_n: int = 0
    prompt_ms: float = 0.0
    predicted_n: int = 0
    predicted_ms: float = 0.0


class _Whole(msgspec.Struct):
    """What an unstreamed answer tells of its cost."""

    usage: UsageObject | None = None
    timings: Timings | None = None


_whole_decoder = msgspec.json.Decoder(_Whole)
_usage_decoder = msgspec.json.Decoder(UsageObject)
_timings_decoder = msgspec.json.Decoder(Timings)


def read_body(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Decode a request's body; raises InvalidRequest that names the field."""
    try:
        if not body.isascii():
            body.decode()  # what the decoder skips, it does not check
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid(error) from None


def invalid(error: Exception) -> InvalidRequest:
    """The decoder's complaint in words for the caller."""
    if isinstance(error, RecursionError):
        return InvalidRequest("The body is nested too deeply: flatten it.")
    if isinstance(error, UnicodeDecodeError):
        return InvalidRequest(f"The body is not valid UTF-8 (byte {error.start}): send JSON in UTF-8.")
    if not isinstance(error, msgspec.ValidationError):
        return InvalidRequest(f"The body is not valid JSON: {str(error).removeprefix('JSON is malformed: ')}.")
    match = _PATH.match(str(error))
    what, path = (match["what"], match["path"]) if match else (str(error), "")
    if not path and what.startswith("Expected `object`"):
        return InvalidRequest(f"The body must be a JSON object: {what[0].lower()}{what[1:]}.")
    field = _FIELD.search(what)
    if field and "missing" in what:
        path = f"{path}.{field['name']}" if path else field["name"]
        return InvalidRequest(f"`{path}` is missing: it is required.", param=path)
    return InvalidRequest(
        f"`{path}` is wrong: {what[0].lower()}{what[1:]}." if path else f"{what}.", param=path or None
    )


def read_inputs(given: str | list[str | int | list[int]], name: str) -> tuple[str | tuple[int, ...], ...]:
    """Texts and lists of tokens; a bare text or a bare list of tokens is one."""
    if isinstance(given, str):
        return (given,)
    if not given:
        raise InvalidRequest(f"`{name}` must not be empty.", param=name)
    numbers = [one for one in given if isinstance(one, int)]
    if not numbers:
        return tuple(one if isinstance(one, str) else tuple(one) for one in given if not isinstance(one, int))
    if len(numbers) < len(given):
        raise InvalidRequest(f"`{name}` must be texts or lists of tokens, not both in one list.", param=name)
    return (tuple(numbers),)


def usage_object(usage: Usage) -> dict[str, Any]:
    """`usage` as OpenAI writes it, details included."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def whole_usage(body: bytes) -> Usage | None:
    """What an unstreamed answer says it has cost. Raises msgspec.DecodeError when it is not JSON at all."""
    try:
        found = _whole_decoder.decode(body)
    except msgspec.ValidationError:
        return None
    return _usage(found.usage, found.timings)


def find_usage(tail: bytes) -> Usage | None:
    """What the end of a stream says it has cost; the key cannot occur inside generated text, where quotes are escaped.

    llama.cpp tells in `timings` even where `usage` was not asked for.
    """
    return _usage(_last_object(tail, b'"usage"', _usage_decoder), _last_object(tail, b'"timings"', _timings_decoder))


def _usage(found: UsageObject | None, timings: Timings | None) -> Usage | None:
    usage = None
    if found is not None and found.prompt_tokens is not None:
        usage = Usage(found.prompt_tokens, found.completion_tokens or 0)
        if found.prompt_tokens_details is not None:
            usage.cached_tokens = found.prompt_tokens_details.cached_tokens or 0
        if found.completion_tokens_details is not None:
            usage.reasoning_tokens = found.completion_tokens_details.reasoning_tokens or 0
    elif timings is not None:
        usage = Usage(timings.cache_n + timings.prompt_n, timings.predicted_n, timings.cache_n)
    if usage is not None and timings is not None:
        usage.prompt_seconds, usage.completion_seconds = timings.prompt_ms / 1e3, timings.predicted_ms / 1e3
    return usage


def _last_object(tail: bytes, key: bytes, decoder: msgspec.json.Decoder[T]) -> T | None:
    """The last object that stands under `key`; a null or a torn one does not count. It holds no text with braces."""
    at = len(tail)
    while (at := tail.rfind(key, 0, at)) >= 0:
        start = at + len(key)
        head = tail[start : start + 8].lstrip(b": \t\r\n")[:1]
        if head != b"{":
            continue
        start = end = tail.index(b"{", start)
        while (end := tail.find(b"}", end) + 1) > 0:
            if tail.count(b"{", start, end) == tail.count(b"}", start, end):
                break
        else:
            continue
        try:
            return decoder.decode(tail[start:end])
        except msgspec.DecodeError:
            continue
    return None


def stream_ended(tail: bytes) -> bool:
    """Whether a stream came to its end: `[DONE]`, or, of servers that leave it out, a finish reason."""
    return tail.rstrip().endswith(b"[DONE]") or _FINISH.search(tail) is not None


_FINISH = re.compile(rb'"finish_reason":\s*"')
