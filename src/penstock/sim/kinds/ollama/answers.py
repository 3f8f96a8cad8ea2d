"""Answers of `/api/chat` and `/api/generate`: one object, or the lines of a stream, with tool calls and logprobs."""

import math
import secrets
import string
import zlib
from dataclasses import dataclass
from typing import Any

from penstock.sim.exchange import Exchange
from penstock.sim.generated_text import Answer, GenerationRequest, tokens_of
from penstock.sim.kinds.ollama.go.text import encode_json
from penstock.sim.kinds.ollama.handler import NDJSON
from penstock.sim.kinds.ollama.library import Installed, utc_now
from penstock.sim.openai.response import build_logprob
from penstock.sim.speed_model import Session

_LETTERS = string.ascii_lowercase + string.digits
_RUNNER_LETTERS = string.ascii_letters + string.digits
_MAX_REPEATS = 30  # equal tokens after the first
Line = dict[str, Any]


@dataclass(slots=True)
class Generating:
    """A validated request, ready to run."""

    exchange: Exchange
    body: dict[str, Any]
    installed: Installed
    chat: bool

    @property
    def options(self) -> dict[str, Any]:
        """The options of the Modelfile, replaced by those of the request."""
        return {**self.installed.parameters, **(self.body.get("options") or {})}

    @property
    def is_streamed(self) -> bool:
        return bool(self.body.get("stream", True))

    @property
    def is_native(self) -> bool:
        """True if llama-server applies the chat template and finds the tool calls."""
        return self.chat and self.installed.is_native

    def build_chunk(self, text: str, thinking: str = "", **more: Any) -> Line:
        """Build one object of the answer; `more` goes into the message, or beside the response."""
        head: Line = {"model": self.body["model"], "created_at": utc_now()}
        thought = {"thinking": thinking} if thinking else {}
        if self.chat:
            head["message"] = {"role": "assistant", "content": text, **thought, **more}
        else:
            head |= {"response": text, **thought, **more}
        return {**head, "done": False}

    def build_ending(self, reason: str) -> Line:
        """Build the answer to a request that only loads or unloads the model."""
        return {**self.build_chunk(""), "done": True, "done_reason": reason}

    def build_debug_info(self, rendered: str, images: int) -> Line:
        """Build the answer to a request for the rendered prompt."""
        info: Line = {"rendered_template": rendered, **({"image_count": images} if images else {})}
        head = {"model": self.body["model"], "created_at": utc_now()}
        empty = {"message": {"role": "", "content": ""}} if self.chat else {"response": ""}
        return {**head, **empty, "done": False, "_debug_info": info}

    def build_logprobs(self, tokens: list[str]) -> Line:
        if not self.body.get("logprobs"):
            return {}
        rows = [build_logprob(token, self.body.get("top_logprobs", 0)) for token in tokens if token]
        return {
            "logprobs": [
                {name: value for name, value in row.items() if value or name != "top_logprobs"} for row in rows
            ]
        }


@dataclass(slots=True)
class Outcome:
    """A generation: the request to the model, its answer, and the session that produces it.

    `can_loop` is False for an answer that repeats a token only because it quotes its caller.
    """

    run: Generating
    session: Session
    ask: GenerationRequest
    answer: Answer
    can_loop: bool = False

    @property
    def call_tokens(self) -> list[str]:
        """The text of a tool call as the model writes it, in tokens."""
        call = self.answer.call
        if call is None:
            return []
        written = encode_json({"name": call.name, "arguments": call.arguments}).decode()
        return ["<tool_call>", *tokens_of(written), "</tool_call>"]

    @property
    def is_call_cut(self) -> bool:
        """Return True if the limit of tokens ends the answer within its call, so that there is none."""
        return bool(self.call_tokens) and self._all_tokens > self.generated_tokens

    @property
    def generated_tokens(self) -> int:
        limit = self.ask.max_tokens
        return self._all_tokens if limit is None else min(self._all_tokens, limit)

    @property
    def _all_tokens(self) -> int:
        return len(self.answer.thinking) + len(self.answer.tokens) + len(self.call_tokens)

    @property
    def _pieces(self) -> list[tuple[str, str]]:
        """Pieces of the answer as (text, thinking), one of them empty."""
        pieces = [("", piece) for piece in self.answer.thinking] + [(piece, "") for piece in self.answer.tokens]
        return pieces[: self.generated_tokens if self._loop_at is None else self._loop_at]

    @property
    def _loop_at(self) -> int | None:
        """Number of tokens before the one at which Ollama ends a model that repeats itself, or None."""
        if self.run.is_native or not self.can_loop:
            return None
        previous, repeats = "", 0
        for at, token in enumerate([*self.answer.thinking, *self.answer.tokens][: self.generated_tokens]):
            repeats = repeats + 1 if token.strip() == previous else 0
            previous = token.strip()
            if repeats > _MAX_REPEATS:
                return at
        return None

    def build_tool_calls(self) -> Line:
        """Build the calls of the answer, their arguments as objects. One that names no tool is dropped."""
        call = self.answer.call
        if call is None or self.is_call_cut or not call.name:
            return {}
        function = {"index": 0, "name": call.name, "arguments": call.arguments}
        return {"tool_calls": [{"id": create_call_id(native=self.run.is_native), "function": function}]}

    def build_last(self, chunk: Line, logprobs: Line) -> Line:
        """Build the last object: the reason for the end, and the durations without zeros."""
        run = self.run
        finish = "length" if self.is_call_cut else self.answer.finish
        closing: Line = {"done": True, "done_reason": finish}
        if not run.chat and not run.body.get("raw"):
            closing["context"] = [
                *(run.body.get("context") or ()),
                *(zlib.crc32(token.encode()) % 262144 for token in (*tokens_of(self.ask.message), *self.answer.tokens)),
            ]
        metrics = build_metrics(self.session, self.ask.prompt_tokens, self.generated_tokens)
        parts = (logprobs, metrics) if run.chat else (metrics, logprobs)
        return {**chunk, **closing, **parts[0], **parts[1]}

    async def send_stream(self) -> None:
        """Send the answer line by line, each when its token is ready. A model that repeats itself gets no last line."""
        for text, thought in self._pieces:
            await self.session.generate_token()
            await self._send_line(self.run.build_chunk(text, thought), text or thought)
        if self._loop_at is not None:
            await self.run.exchange.finish()
            return
        call, calls = self._generated_call, self.build_tool_calls()
        early = calls and not self.run.is_native
        for at, token in enumerate(call):
            await self.session.generate_token()
            # The parser waits for the call to be complete, and logprobs do not wait.
            if early and at == len(call) - 2:
                await self._send_line(self.run.build_chunk("", **calls), token)
            elif self.run.body.get("logprobs"):
                await self._send_line(self.run.build_chunk(""), token)
        last = self.run.build_chunk("", **({} if early else calls))
        await self._send_line(self.build_last(last, {}), "")
        await self.run.exchange.finish()

    @property
    def _generated_call(self) -> list[str]:
        return self.call_tokens[: self.generated_tokens - len(self._pieces)]

    async def _send_line(self, line: Line, token: str) -> None:
        if not self.run.exchange.started:
            await self.run.exchange.start(200, NDJSON)
        more = self.run.build_logprobs([token]) if token else {}
        await self.run.exchange.send(encode_json({**line, **more}) + b"\n")

    async def build_complete(self) -> Line:
        """Wait for the whole answer and build the one object that holds it."""
        for _ in range(self.generated_tokens):
            await self.session.generate_token()
        pieces = self._pieces
        text, thinking = "".join(text for text, _ in pieces), "".join(thought for _, thought in pieces)
        chunk = self.run.build_chunk(text, thinking, **self.build_tool_calls())
        logprobs = self.run.build_logprobs([text or thought for text, thought in pieces] + self._generated_call)
        return {**chunk, **logprobs} if self._loop_at is not None else self.build_last(chunk, logprobs)


def create_call_id(*, native: bool = False) -> str:
    """Create the id of a call: Ollama's own, or llama-server's."""
    if native:
        return "".join(secrets.choice(_RUNNER_LETTERS) for _ in range(32))
    return "call_" + "".join(secrets.choice(_LETTERS) for _ in range(8))


def build_metrics(session: Session, prompt_tokens: int, generated: int) -> dict[str, int]:
    """Build Ollama's counts and durations in nanoseconds."""
    numbers = {
        "total_duration": _to_nanoseconds(session.total_seconds),
        "load_duration": _to_nanoseconds(session.load_seconds),
        "prompt_eval_count": prompt_tokens,
        "prompt_eval_duration": _to_nanoseconds(session.prefill_seconds),
        "eval_count": generated,
        "eval_duration": _to_nanoseconds(session.decode_seconds),
    }
    return {name: number for name, number in numbers.items() if number}


def _to_nanoseconds(seconds: float) -> int:
    return math.ceil(seconds * 1e9)
