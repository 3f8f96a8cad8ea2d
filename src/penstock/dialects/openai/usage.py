"""Token counts of OpenAI's responses, and the end of their streams."""

import re
from typing import Any

import msgspec

from penstock.dialects.json_body import TokenCount, decode_last_object
from penstock.domain.response import Usage


class TokenDetails(msgspec.Struct):
    """Parts of a token count: `cached_tokens` of the prompt's, `reasoning_tokens` of the completion's."""

    cached_tokens: TokenCount | None = None
    reasoning_tokens: TokenCount | None = None


class UsageObject(msgspec.Struct):
    """`usage` as OpenAI's API and compatible servers write it."""

    prompt_tokens: TokenCount | None = None
    completion_tokens: TokenCount | None = None
    prompt_tokens_details: TokenDetails | None = None
    completion_tokens_details: TokenDetails | None = None


class Timings(msgspec.Struct):
    """llama.cpp's `timings`: tokens from the cache, tokens processed, tokens generated, and milliseconds."""

    cache_n: TokenCount = 0
    prompt_n: TokenCount = 0
    prompt_ms: float = 0.0
    predicted_n: TokenCount = 0
    predicted_ms: float = 0.0


class _Response(msgspec.Struct):
    usage: UsageObject | None = None
    timings: Timings | None = None


_response_decoder = msgspec.json.Decoder(_Response)
_usage_decoder = msgspec.json.Decoder(UsageObject)
_timings_decoder = msgspec.json.Decoder(Timings)
_FINISH_REASON = re.compile(rb'"finish_reason":\s*"[^"]')  # some servers send an empty one in each event


def build_usage_object(usage: Usage) -> dict[str, Any]:
    """Return `usage` as OpenAI writes it, with details."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def parse_usage(tail: bytes, streamed: bool) -> Usage | None:
    """Parse the token counts of a stream's tail or of a complete body.

    Raises msgspec.DecodeError if such a body is not JSON.
    """
    return find_usage(tail) if streamed else _parse_response_usage(tail)


def find_usage(tail: bytes) -> Usage | None:
    """Find the token counts at the end of a stream.

    llama.cpp sends `timings` even if the request did not ask for `usage`.
    """
    return _to_usage(
        decode_last_object(tail, b'"usage"', _usage_decoder), decode_last_object(tail, b'"timings"', _timings_decoder)
    )


def is_stream_complete(tail: bytes) -> bool:
    """Return whether a stream ends with `[DONE]` or, for servers that omit it, contains a finish reason."""
    return tail.rstrip().endswith(b"[DONE]") or _FINISH_REASON.search(tail) is not None


def _parse_response_usage(body: bytes) -> Usage | None:
    try:
        response = _response_decoder.decode(body)
    except msgspec.ValidationError:
        return None
    return _to_usage(response.usage, response.timings)


def _to_usage(counts: UsageObject | None, timings: Timings | None) -> Usage | None:
    prompt_seconds = completion_seconds = 0.0
    if timings is not None:
        prompt_seconds, completion_seconds = timings.prompt_ms / 1e3, timings.predicted_ms / 1e3
    if counts is not None and counts.prompt_tokens is not None:
        prompt_details, completion_details = counts.prompt_tokens_details, counts.completion_tokens_details
        return Usage(
            counts.prompt_tokens,
            counts.completion_tokens or 0,
            cached_tokens=(prompt_details.cached_tokens or 0) if prompt_details is not None else 0,
            reasoning_tokens=(completion_details.reasoning_tokens or 0) if completion_details is not None else 0,
            prompt_seconds=prompt_seconds,
            completion_seconds=completion_seconds,
        )
    if timings is None:
        return None
    return Usage(
        timings.cache_n + timings.prompt_n,
        timings.predicted_n,
        timings.cache_n,
        prompt_seconds=prompt_seconds,
        completion_seconds=completion_seconds,
    )
