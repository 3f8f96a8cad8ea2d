"""How vLLM writes a generation: whole, and as server-sent events, key by key as recorded."""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from penstock.sim.answer import Answer, Ask
from penstock.sim.engine import EngineCrashError, QueueFullError
from penstock.sim.http import Exchange
from penstock.sim.kind import Kind
from penstock.sim.openai_request import Wish
from penstock.sim.openai_shapes import DONE, EVENTS, JSON, arguments_text, event, fragments, logprob, usage
from penstock.sim.options import SimModel

FINGERPRINT = "vllm-0.32.0-5e9aa960"
_STREAMED = f"{EVENTS}; charset=utf-8"
_BROKEN = "EngineCore encountered an issue. See stack trace (above) for the root cause."
_FULL = "The simulated server has no room for another request."


@dataclass(slots=True)
class Generation:
    """One request's answers, one per prompt and choice, and where they go."""

    kind: Kind
    exchange: Exchange
    model: SimModel
    asks: Sequence[Ask]
    answers: Sequence[Answer]
    wish: Wish
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def _prompt_tokens(self) -> int:
        return sum(ask.prompt_tokens for ask in self.asks)

    @property
    def _choices(self) -> list[Answer]:
        return [answer for answer in self.answers for _ in range(self.wish.n)]

    @property
    def _usage(self) -> dict[str, Any]:
        return usage(self._prompt_tokens, sum(answer.count for answer in self._choices))

    async def whole(self) -> None:
        """Generate, then answer at once."""
        try:
            async with self.kind.engine.session(self.model, crash=self.exchange.fault) as session:
                await session.prefill(self._prompt_tokens)
                for _ in range(max(answer.count for answer in self.answers)):
                    await session.token()
        except EngineCrashError:
            await self.kind.fail(self.exchange, 500, _BROKEN)
        except QueueFullError:
            await self.kind.fail(self.exchange, 503, _FULL)
        else:
            await self.exchange.reply(200, self.kind.encode(self._body()), JSON)

    async def stream(self) -> None:
        """Answer while generating; the head goes out before the first token."""
        await self.exchange.start(200, _STREAMED)
        try:
            async with self.kind.engine.session(self.model, crash=self.exchange.fault) as session:
                await session.prefill(self._prompt_tokens)
                await self._opening()
                rows = [self._deltas(answer) for answer in self.answers for _ in range(self.wish.n)]
                for step in range(max(map(len, rows))):
                    await session.token()
                    for index, row in enumerate(rows):
                        if step < len(row):
                            await self.exchange.send(event(self._chunk(index, row[step], last=step == len(row) - 1)))
        except EngineCrashError:
            await self.exchange.send(b"data: " + self.kind.failure(500, _BROKEN) + b"\n\n")
        except QueueFullError:
            await self.exchange.send(b"data: " + self.kind.failure(503, _FULL) + b"\n\n")
        else:
            if self.wish.include_usage:
                await self.exchange.send(event({**self._head(), "choices": [], "usage": self._usage, **self._closing()}))
        await self.exchange.send(DONE)
        await self.exchange.finish()

    async def _opening(self) -> None:
        """What comes before the first token."""

    def _head(self) -> dict[str, Any]:
        raise TypeError("a generation is a chat or a completion")

    def _body(self) -> dict[str, Any]:
        raise TypeError("a generation is a chat or a completion")

    def _deltas(self, answer: Answer) -> list[dict[str, Any]]:
        raise TypeError("a generation is a chat or a completion")

    def _chunk(self, index: int, delta: dict[str, Any], *, last: bool) -> dict[str, Any]:
        raise TypeError("a generation is a chat or a completion")

    def _closing(self) -> dict[str, Any]:
        return {"system_fingerprint": FINGERPRINT}


@dataclass(slots=True)
class Chat(Generation):
    """`/v1/chat/completions`."""

    def _head(self) -> dict[str, Any]:
        return {"id": f"chatcmpl-{self.id}", "object": "chat.completion.chunk", "created": self.created, "model": self.model.name}

    async def _opening(self) -> None:
        for index in range(self.wish.n):
            choice = {"index": index, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
            await self.exchange.send(event({**self._head(), "choices": [choice], "prompt_token_ids": None, "prompt_text": None}))

    def _deltas(self, answer: Answer) -> list[dict[str, Any]]:
        deltas: list[dict[str, Any]] = [{"reasoning": piece} for piece in answer.thinking]
        deltas += [{"content": piece} for piece in answer.tokens]
        if answer.call is not None:
            deltas += _call_deltas(answer.call.name, arguments_text(answer.call.arguments))
        return deltas or [{"content": ""}]

    def _chunk(self, index: int, delta: dict[str, Any], *, last: bool) -> dict[str, Any]:
        answer = self._choices[index]
        choice: dict[str, Any] = {"index": index, "delta": delta, "logprobs": self._logprobs([delta.get("content")]), "finish_reason": None}
        if last:
            choice |= {"finish_reason": _finish(answer), "stop_reason": answer.stopped_by}
        choice["token_ids"] = None
        closing = self._closing() if last and not self.wish.include_usage else {}
        return {**self._head(), "choices": [choice], **closing}

    def _logprobs(self, tokens: Sequence[str | None]) -> dict[str, Any] | None:
        wanted = self.wish.logprobs
        given = [token for token in tokens if token]
        return None if wanted is None or not given else {"content": [logprob(token, wanted) for token in given]}

    def _body(self) -> dict[str, Any]:
        choices = [
            {
                "index": index,
                "message": _message(answer),
                "logprobs": self._logprobs(answer.tokens),
                "finish_reason": _finish(answer),
                "stop_reason": answer.stopped_by,
                "token_ids": None,
                "routed_experts": None,
            }
            for index, answer in enumerate(self._choices)
        ]
        details = {"prompt_tokens_details": None, "completion_tokens_details": None}
        return {
            **self._head(),
            "object": "chat.completion",
            "choices": choices,
            "service_tier": None,
            "system_fingerprint": FINGERPRINT,
            "usage": {**self._usage, **details},
            "prompt_logprobs": None,
            "prompt_token_ids": None,
            "prompt_text": None,
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "metrics": None,
        }


@dataclass(slots=True)
class Completions(Generation):
    """`/v1/completions`."""

    def _head(self) -> dict[str, Any]:
        return {"id": f"cmpl-{self.id}", "object": "text_completion", "created": self.created, "model": self.model.name}

    def _deltas(self, answer: Answer) -> list[dict[str, Any]]:
        return [{"text": piece} for piece in answer.tokens] or [{"text": ""}]

    def _chunk(self, index: int, delta: dict[str, Any], *, last: bool) -> dict[str, Any]:
        answer = self._choices[index]
        choice: dict[str, Any] = {
            "index": index,
            "text": delta["text"],
            "logprobs": self._logprobs([delta["text"]]),
            "finish_reason": answer.finish if last else None,
            "stop_reason": answer.stopped_by if last else None,
            "prompt_token_ids": None,
            "token_ids": None,
        }
        return {**self._head(), "choices": [choice]}

    def _logprobs(self, tokens: Sequence[str]) -> dict[str, Any] | None:
        if self.wish.logprobs is None:
            return None
        rows = [logprob(token, self.wish.logprobs) for token in tokens if token]
        offsets = [sum(map(len, tokens[:at])) for at in range(len(rows))]
        return {
            "text_offset": offsets,
            "token_logprobs": [row["logprob"] for row in rows],
            "tokens": [row["token"] for row in rows],
            "top_logprobs": [{top["token"]: top["logprob"] for top in row["top_logprobs"]} for row in rows],
        }

    def _body(self) -> dict[str, Any]:
        choices = [
            {
                "index": index,
                "text": answer.text,
                "logprobs": self._logprobs(answer.tokens),
                "finish_reason": answer.finish,
                "stop_reason": answer.stopped_by,
                "token_ids": None,
                "prompt_logprobs": None,
                "prompt_token_ids": None,
                "routed_experts": None,
            }
            for index, answer in enumerate(self._choices)
        ]
        return {
            **self._head(),
            "choices": choices,
            "service_tier": None,
            "system_fingerprint": FINGERPRINT,
            "usage": {**self._usage, "prompt_tokens_details": None, "completion_tokens_details": None},
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "metrics": None,
        }


def _finish(answer: Answer) -> str:
    return "tool_calls" if answer.call is not None else answer.finish


def _message(answer: Answer) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": answer.text}
    message |= {"refusal": None, "annotations": None, "audio": None, "function_call": None}
    if answer.call is not None:
        function = {"name": answer.call.name, "arguments": arguments_text(answer.call.arguments)}
        message["content"] = None
        message["tool_calls"] = [{"id": _call_id(), "type": "function", "function": function}]
    message["reasoning"] = "".join(answer.thinking) or None
    return message


def _call_deltas(name: str, arguments: str) -> list[dict[str, Any]]:
    """Name first, then the arguments in pieces; the name's chunk holds a second entry of the same index, as vLLM's may."""
    first, *rest = fragments(arguments)
    opened = {"id": _call_id(), "type": "function", "index": 0, "function": {"name": name, "arguments": ""}}
    deltas = [{"tool_calls": [opened, {"index": 0, "function": {"arguments": first}}]}]
    return deltas + [{"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in rest]


def _call_id() -> str:
    return f"chatcmpl-tool-{secrets.token_hex(8)}"
