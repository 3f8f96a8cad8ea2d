"""Metadata of the gateway's own responses: where a response comes from, its token counts, and timestamps."""

import time
from typing import Any

import msgspec

from penstock.dialects.timestamps import format_timestamp
from penstock.domain.errors import PenstockError
from penstock.domain.provenance import Provenance
from penstock.domain.response import Choice, ModelResponse, Usage


def format_now() -> str:
    """Return the current time, for errors, which carry no time."""
    return format_timestamp(time.time())


def format_completion_time(provenance: Provenance) -> str:
    """Return the time when the response was complete."""
    return format_timestamp(provenance.created + provenance.total_seconds)


def first_choice(response: ModelResponse) -> Choice:
    """Return the first choice: these endpoints request only one."""
    return response.choices[0] if response.choices else Choice()


def build_metadata(provenance: Provenance, response: ModelResponse) -> dict[str, Any]:
    """Build `metadata`. Times are milliseconds."""
    usage = response.usage or Usage()
    return {
        "model": provenance.model,
        "provider": provenance.provider,
        "distributed_routing": provenance.is_distributed,
        "server_used": provenance.server_url,
        "complexity_level": provenance.complexity or None,
        "used_fast_model": provenance.used_fast_model,
        "task_type": provenance.task_type or None,
        "fallback": provenance.is_fallback,
        "reason": provenance.reason or None,
        "finish_reason": first_choice(response).finish or None,
        "queue_ms": _to_milliseconds(provenance.queue_seconds),
        "load_ms": _to_milliseconds(usage.load_seconds),
        "ttft_ms": _to_milliseconds(provenance.ttft_seconds),
        "total_ms": _to_milliseconds(provenance.total_seconds),
        "request_id": provenance.request_id,
    } | ({"simulated": True} if provenance.is_simulated else {})


def build_error_fields(error: PenstockError, request_id: str) -> dict[str, Any]:
    """Build the machine-readable members of an error: `code` and `message`, and others that are not None."""
    fields = {
        "code": error.code,
        "message": error.message,
        "param": error.param,
        "retry_after": error.retry_after,
        "request_id": request_id or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def build_token_counts(response: ModelResponse) -> dict[str, Any]:
    """Build the token counts of a response."""
    usage = response.usage or Usage()
    counts: dict[str, Any] = {
        "prompt_tokens": usage.prompt_tokens,
        "response_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
    return counts | ({"tokens_estimated": True} if usage.estimated else {})


class _TokenCounts(msgspec.Struct, frozen=True):
    prompt_tokens: int = 0
    response_tokens: int = 0
    tokens_estimated: bool = False


class _Body(_TokenCounts, frozen=True):
    """A response body: the token counts stand at the top or in the metadata."""

    metadata: _TokenCounts = _TokenCounts()


_decoder = msgspec.json.Decoder(_Body)


def parse_token_counts(body: bytes) -> Usage | None:
    """Parse the token counts of a complete body, None without any. Raises msgspec.DecodeError if it is not JSON."""
    try:
        parsed = _decoder.decode(body)
    except msgspec.ValidationError:
        return None
    counts = parsed if parsed.prompt_tokens else parsed.metadata
    if not counts.prompt_tokens:
        return None
    return Usage(counts.prompt_tokens, counts.response_tokens, estimated=counts.tokens_estimated)


def _to_milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 1)
