"""What the gateway's own answers share: the metadata that says who answered and why, and how times are written."""

import time
from typing import Any

import msgspec

from penstock.dialects.timestamps import format_timestamp
from penstock.domain.errors import PenstockError
from penstock.domain.response import Choice, ModelResponse, Usage
from penstock.domain.response_metadata import Provenance


def stamp_now() -> str:
    """The present moment, for errors: nobody hands them a time."""
    return format_timestamp(time.time())


def stamp_answer(provenance: Provenance) -> str:
    """When an answer was whole."""
    return format_timestamp(provenance.created + provenance.total_seconds)


def first(answer: ModelResponse) -> Choice:
    """The answer that these surfaces show: they ask for one."""
    return answer.choices[0] if answer.choices else Choice()


def metadata(provenance: Provenance, answer: ModelResponse) -> dict[str, Any]:
    """Who answered and why; times in milliseconds."""
    usage = answer.usage or Usage()
    return {
        "model": provenance.model,
        "provider": provenance.provider,
        "distributed_routing": provenance.distributed,
        "server_used": provenance.server_url,
        "complexity_level": provenance.complexity or None,
        "used_fast_model": provenance.fast_model,
        "task_type": provenance.task_type or None,
        "fallback": provenance.fallback,
        "reason": provenance.reason or None,
        "finish_reason": first(answer).finish or None,
        "queue_ms": _milliseconds(provenance.queue_seconds),
        "load_ms": _milliseconds(usage.load_seconds),
        "ttft_ms": _milliseconds(provenance.ttft_seconds),
        "total_ms": _milliseconds(provenance.total_seconds),
        "request_id": provenance.request_id,
    } | ({"simulated": True} if provenance.simulated else {})


def fault(error: PenstockError, request_id: str) -> dict[str, Any]:
    """What an error tells a program: `code` and `message` always, the rest where there is something to say."""
    told = {
        "code": error.code,
        "message": error.message,
        "param": error.param,
        "retry_after": error.retry_after,
        "request_id": request_id or None,
    }
    return {name: value for name, value in told.items() if value is not None}


def tokens(answer: ModelResponse) -> dict[str, Any]:
    """What the answer has cost, in the words of the service API."""
    usage = answer.usage or Usage()
    told: dict[str, Any] = {
        "prompt_tokens": usage.prompt_tokens,
        "response_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
    return told | ({"tokens_estimated": True} if usage.estimated else {})


class _Tokens(msgspec.Struct, frozen=True):
    prompt_tokens: int = 0
    response_tokens: int = 0
    tokens_estimated: bool = False


class _Told(_Tokens, frozen=True):
    """The tokens stand at the top, or in the metadata."""

    metadata: _Tokens = _Tokens()


_told = msgspec.json.Decoder(_Told)


def usage(body: bytes) -> Usage | None:
    """The tokens that a whole answer tells of; None when it tells of none. Raises DecodeError when it is not JSON."""
    try:
        told = _told.decode(body)
    except msgspec.ValidationError:
        return None
    tokens = told if told.prompt_tokens else told.metadata
    if not tokens.prompt_tokens:
        return None
    return Usage(tokens.prompt_tokens, tokens.response_tokens, estimated=tokens.tokens_estimated)


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 1)
