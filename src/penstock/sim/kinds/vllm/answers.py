"""Responses of vLLM, complete and as server-sent events, key by key as recorded."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from penstock.sim.generated_text import Answer
from penstock.sim.openai.generation import Chunk, Generation
from penstock.sim.openai.response import EVENTS, arguments_text, build_logprob, build_usage, split_text
from penstock.sim.speed_model import Session

FINGERPRINT = "vllm-0.32.0-5e9aa960"


@dataclass(slots=True)
class _Vllm(Generation):
    """Common parts of chat and completions."""

    head_first: ClassVar[bool] = True
    event_type: ClassVar[str] = f"{EVENTS}; charset=utf-8"
    broken: ClassVar[str] = "EngineCore encountered an issue. See stack trace (above) for the root cause."

    id: str = field(default_factory=lambda: secrets.token_hex(8))

    def common_fields(self) -> Chunk:
        return {}

    def build_usage(self) -> dict[str, Any]:
        return build_usage(self.prompt_tokens, self.completion_tokens)

    def closing_chunks(self, session: Session) -> list[Chunk]:
        if not self.wish.include_usage:
            return []
        return [{**self.common_fields(), "choices": [], "usage": self.build_usage(), "system_fingerprint": FINGERPRINT}]


@dataclass(slots=True)
class Chat(_Vllm):
    """`/v1/chat/completions`."""

    def common_fields(self) -> Chunk:
        return {
            "id": f"chatcmpl-{self.id}",
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model.name,
        }

    def opening_chunks(self) -> list[Chunk]:
        delta = {"role": "assistant", "content": ""}
        choices = [{"index": at, "delta": delta, "logprobs": None, "finish_reason": None} for at in range(self.wish.n)]
        return [
            {**self.common_fields(), "choices": [choice], "prompt_token_ids": None, "prompt_text": None}
            for choice in choices
        ]

    def token_chunks(self, index: int, answer: Answer) -> list[Chunk]:
        deltas = self._build_deltas(answer)
        return [self._build_chunk(index, answer, delta, last=delta is deltas[-1]) for delta in deltas]

    def _build_deltas(self, answer: Answer) -> list[dict[str, Any]]:
        deltas: list[dict[str, Any]] = [{"reasoning": piece} for piece in answer.thinking]
        deltas += [{"content": piece} for piece in answer.tokens]
        if answer.call is not None:
            deltas += [*_call_deltas(answer.call.name, arguments_text(answer.call.arguments)), {}]
        elif answer.finish == "stop" and answer.stopped_by is None:
            # The token that ends the answer has no text.
            deltas.append({})
        return deltas or [{"content": ""}]

    def _build_chunk(self, index: int, answer: Answer, delta: Chunk, *, last: bool) -> Chunk:
        choice: Chunk = {
            "index": index,
            "delta": delta,
            "logprobs": self._build_logprobs([delta.get("content")]),
            "finish_reason": None,
        }
        if last:
            choice |= {"finish_reason": _finish_reason(answer), "stop_reason": answer.stopped_by}
        choice["token_ids"] = None
        closing = {"system_fingerprint": FINGERPRINT} if last and not self.wish.include_usage else {}
        return {**self.common_fields(), "choices": [choice], **closing}

    def _build_logprobs(self, tokens: Sequence[str | None]) -> dict[str, Any] | None:
        wanted = self.wish.logprobs
        given = [token for token in tokens if token]
        return None if wanted is None or not given else {"content": [build_logprob(token, wanted) for token in given]}

    def complete_body(self, session: Session) -> Chunk:
        choices = [
            {
                "index": index,
                "message": _build_message(answer),
                "logprobs": self._build_logprobs(answer.tokens),
                "finish_reason": _finish_reason(answer),
                "stop_reason": answer.stopped_by,
                "token_ids": None,
                "routed_experts": None,
            }
            for index, answer in enumerate(self.choices)
        ]
        details = {"prompt_tokens_details": None, "completion_tokens_details": None}
        return {
            **self.common_fields(),
            "object": "chat.completion",
            "choices": choices,
            "service_tier": None,
            "system_fingerprint": FINGERPRINT,
            "usage": {**self.build_usage(), **details},
            "prompt_logprobs": None,
            "prompt_token_ids": None,
            "prompt_text": None,
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "metrics": None,
        }


@dataclass(slots=True)
class Completions(_Vllm):
    """`/v1/completions`."""

    def common_fields(self) -> Chunk:
        return {"id": f"cmpl-{self.id}", "object": "text_completion", "created": self.created, "model": self.model.name}

    def opening_chunks(self) -> list[Chunk]:
        return []

    def token_chunks(self, index: int, answer: Answer) -> list[Chunk]:
        natural = answer.finish == "stop" and answer.stopped_by is None
        pieces = (*answer.tokens, "") if natural or not answer.tokens else answer.tokens
        rows = []
        for at, piece in enumerate(pieces):
            last = at == len(pieces) - 1
            choice = {
                "index": index,
                "text": piece,
                "logprobs": self._build_logprobs([piece]),
                "finish_reason": answer.finish if last else None,
                "stop_reason": answer.stopped_by if last else None,
                "prompt_token_ids": None,
                "token_ids": None,
            }
            closing = {"system_fingerprint": FINGERPRINT} if last and not self.wish.include_usage else {}
            rows.append({**self.common_fields(), "choices": [choice], **closing})
        return rows

    def _build_logprobs(self, tokens: Sequence[str]) -> dict[str, Any] | None:
        if self.wish.logprobs is None:
            return None
        rows = [build_logprob(token, self.wish.logprobs) for token in tokens if token]
        offsets = [sum(map(len, tokens[:at])) for at in range(len(rows))]
        return {
            "text_offset": offsets,
            "token_logprobs": [row["logprob"] for row in rows],
            "tokens": [row["token"] for row in rows],
            "top_logprobs": [{top["token"]: top["logprob"] for top in row["top_logprobs"]} for row in rows],
        }

    def complete_body(self, session: Session) -> Chunk:
        choices = [
            {
                "index": index,
                "text": answer.text,
                "logprobs": self._build_logprobs(answer.tokens),
                "finish_reason": answer.finish,
                "stop_reason": answer.stopped_by,
                "token_ids": None,
                "prompt_logprobs": None,
                "prompt_token_ids": None,
                "routed_experts": None,
            }
            for index, answer in enumerate(self.choices)
        ]
        return {
            **self.common_fields(),
            "choices": choices,
            "service_tier": None,
            "system_fingerprint": FINGERPRINT,
            "usage": {**self.build_usage(), "prompt_tokens_details": None, "completion_tokens_details": None},
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "metrics": None,
        }


def _finish_reason(answer: Answer) -> str:
    return "tool_calls" if answer.call is not None else answer.finish


def _build_message(answer: Answer) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": answer.text}
    message |= {"refusal": None, "annotations": None, "audio": None, "function_call": None}
    if answer.call is not None:
        function = {"name": answer.call.name, "arguments": arguments_text(answer.call.arguments)}
        message["content"] = None
        message["tool_calls"] = [{"id": _call_id(), "type": "function", "function": function}]
    message["reasoning"] = "".join(answer.thinking) or None
    return message


def _call_deltas(name: str, arguments: str) -> list[dict[str, Any]]:
    """Return the name, then the arguments in pieces; the first chunk has two entries of one index, as vLLM's may."""
    first, *rest = split_text(arguments)
    opened = {"id": _call_id(), "type": "function", "index": 0, "function": {"name": name}}
    parts = [[opened, {"index": 0, "function": {"arguments": first}}]]
    parts += [[{"index": 0, "function": {"arguments": piece}}] for piece in rest]
    return [{"content": None, "tool_calls": part} for part in parts]


def _call_id() -> str:
    return f"chatcmpl-tool-{secrets.token_hex(8)}"
