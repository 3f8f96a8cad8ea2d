"""Responses of llama-server, complete and as server-sent events, key by key as recorded."""

import secrets
import string
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from penstock.sim.exchange import Headers
from penstock.sim.generated_text import Answer
from penstock.sim.openai.generation import Chunk, Generation
from penstock.sim.openai.response import arguments_text, build_logprob, split_text
from penstock.sim.speed_model import Session

FINGERPRINT = "b11669-Debian"
_LETTERS = string.ascii_letters + string.digits


def random_id() -> str:
    """Return 32 random letters and digits."""
    return "".join(secrets.choice(_LETTERS) for _ in range(32))


def build_timings(session: Session, prompt: int, predicted: int) -> dict[str, Any]:
    """Build llama.cpp's `timings`: tokens and milliseconds."""
    prompt_ms = max(session.prefill_seconds * 1e3, 1e-3)
    predicted_ms = max(session.decode_seconds * 1e3, 1e-3)
    return {
        "cache_n": 0,
        "prompt_n": prompt,
        "prompt_ms": prompt_ms,
        "prompt_per_token_ms": prompt_ms / max(1, prompt),
        "prompt_per_second": prompt / prompt_ms * 1e3,
        "predicted_n": predicted,
        "predicted_ms": predicted_ms,
        "predicted_per_token_ms": predicted_ms / max(1, predicted),
        "predicted_per_second": predicted / predicted_ms * 1e3,
    }


@dataclass(slots=True)
class _LlamaCpp(Generation):
    """Common parts of chat and completions."""

    event_headers: ClassVar[Headers] = (("X-Accel-Buffering", "no"),)

    id: str = field(default_factory=lambda: f"chatcmpl-{random_id()}")

    def build_usage(self) -> dict[str, Any]:
        completion, prompt = self.completion_tokens, self.prompt_tokens
        counts = {"completion_tokens": completion, "prompt_tokens": prompt, "total_tokens": prompt + completion}
        return {**counts, "prompt_tokens_details": {"cached_tokens": 0}}

    def build_timings(self, session: Session) -> dict[str, Any]:
        return build_timings(session, self.prompt_tokens, self.completion_tokens)

    def build_body(self, choices: list[Any], kind: str, session: Session) -> Chunk:
        return {
            "choices": choices,
            "created": self.created,
            "model": self.model.name,
            "system_fingerprint": FINGERPRINT,
            "object": kind,
            "usage": self.build_usage(),
            "id": self.id,
            "timings": self.build_timings(session),
        }

    def build_logprobs(self, tokens: Sequence[str]) -> Chunk | None:
        """Build the log-probabilities of these tokens, or None if they were not requested."""
        given = [token for token in tokens if token]
        if self.wish.logprobs is None or not given:
            return None
        return {"content": [_build_logprob(build_logprob(token, self.wish.logprobs)) for token in given]}

    def build_chunk(self, choices: list[Any], kind: str = "chat.completion.chunk") -> Chunk:
        return {
            "choices": choices,
            "created": self.created,
            "id": self.id,
            "model": self.model.name,
            "system_fingerprint": FINGERPRINT,
            "object": kind,
        }


@dataclass(slots=True)
class Chat(_LlamaCpp):
    """`/v1/chat/completions`."""

    def complete_body(self, session: Session) -> Chunk:
        choices = [
            _with_logprobs(
                {"finish_reason": _finish_reason(answer), "index": index, "message": _build_message(answer)},
                self.build_logprobs(answer.tokens),
            )
            for index, answer in enumerate(self.choices)
        ]
        return self.build_body(choices, "chat.completion", session)

    def opening_chunks(self) -> list[Chunk]:
        delta = {"role": "assistant", "content": None}
        return [self._build_delta(index, delta) for index in range(len(self.choices))]

    def token_chunks(self, index: int, answer: Answer) -> list[Chunk]:
        rows = [self._build_delta(index, {"reasoning_content": piece}) for piece in answer.thinking]
        rows += [self._build_delta(index, {"content": piece}, piece) for piece in answer.tokens]
        if answer.call is not None:
            rows += [self._build_delta(index, delta) for delta in _call_deltas(answer)]
        return rows

    def closing_chunks(self, session: Session) -> list[Chunk]:
        finished = [
            self._build_delta(index, {}, finish=_finish_reason(answer)) for index, answer in enumerate(self.choices)
        ]
        if self.wish.include_usage:
            return [
                *finished,
                {**self.build_chunk([]), "usage": self.build_usage(), "timings": self.build_timings(session)},
            ]
        finished[-1]["timings"] = self.build_timings(session)
        return finished

    def _build_delta(self, index: int, delta: Chunk, token: str = "", *, finish: str | None = None) -> Chunk:
        choice = {"finish_reason": finish, "index": index, "delta": delta}
        return self.build_chunk([_with_logprobs(choice, self.build_logprobs((token,)))])


@dataclass(slots=True)
class Completions(_LlamaCpp):
    """`/v1/completions`."""

    def complete_body(self, session: Session) -> Chunk:
        choices = [
            _text_choice(answer.text, index, answer.finish, self.build_logprobs(answer.tokens))
            for index, answer in enumerate(self.choices)
        ]
        return self.build_body(choices, "text_completion", session)

    def opening_chunks(self) -> list[Chunk]:
        return []

    def token_chunks(self, index: int, answer: Answer) -> list[Chunk]:
        choices = [_text_choice(piece, index, None, self.build_logprobs((piece,))) for piece in answer.tokens]
        rows = [self.build_chunk([choice], "text_completion") for choice in choices]
        return [{**row, "id": row.pop("id")} for row in rows]

    def closing_chunks(self, session: Session) -> list[Chunk]:
        choices = [_text_choice("", index, answer.finish) for index, answer in enumerate(self.choices)]
        return [self.build_body(choices, "text_completion", session)]


def _build_logprob(logprob: Chunk) -> Chunk:
    """Build a token's log-probability with llama.cpp's keys: a token number first, the bytes before the value."""
    row = {"id": zlib.crc32(logprob["token"].encode()) % 32000, "token": logprob["token"], "bytes": logprob["bytes"]}
    tops = logprob.get("top_logprobs")
    return {
        **row,
        "logprob": logprob["logprob"],
        **({} if tops is None else {"top_logprobs": list(map(_build_logprob, tops))}),
    }


def _with_logprobs(choice: Chunk, logprobs: Chunk | None) -> Chunk:
    return choice if logprobs is None else {**choice, "logprobs": logprobs}


def _text_choice(text: str, index: int, finish: str | None, logprobs: Chunk | None = None) -> Chunk:
    return {"text": text, "index": index, "logprobs": logprobs, "finish_reason": finish}


def _finish_reason(answer: Answer) -> str:
    return "tool_calls" if answer.call is not None else answer.finish


def _build_message(answer: Answer) -> Chunk:
    message: Chunk = {"role": "assistant", "content": answer.text}
    if answer.thinking:
        message["reasoning_content"] = "".join(answer.thinking)
    if answer.call is not None:
        function = {"name": answer.call.name, "arguments": arguments_text(answer.call.arguments)}
        message["tool_calls"] = [{"type": "function", "function": function, "id": random_id()}]
    return message


def _call_deltas(answer: Answer) -> list[Chunk]:
    """Return the name of the call, then its arguments in pieces."""
    if answer.call is None:
        return []
    opened = {
        "index": 0,
        "id": random_id(),
        "type": "function",
        "function": {"name": answer.call.name, "arguments": ""},
    }
    pieces = split_text(arguments_text(answer.call.arguments))
    parts = [opened, *({"index": 0, "function": {"arguments": piece}} for piece in pieces)]
    return [{"tool_calls": [part]} for part in parts]
