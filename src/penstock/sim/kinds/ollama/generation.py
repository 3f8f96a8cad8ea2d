"""`/api/chat` and `/api/generate`: checked in Ollama's order, streamed as NDJSON or answered whole."""

import math
import zlib
from dataclasses import dataclass
from typing import Any

from penstock.sim.exchange import Exchange
from penstock.sim.generated_text import Answer, Ask, Tool, compose, tokens_of
from penstock.sim.kinds.ollama import fields
from penstock.sim.kinds.ollama.go_json import decode
from penstock.sim.kinds.ollama.handler import NDJSON, Core, OllamaError, Part, encode
from penstock.sim.kinds.ollama.library import Installed, utc_now
from penstock.sim.kinds.ollama.prompt import Room, fit_messages, fit_text
from penstock.sim.kinds.ollama.tool_calls import call_of
from penstock.sim.openai.request import Prompt
from penstock.sim.openai.response import logprob
from penstock.sim.speed_model import Session

IMAGES = (
    '{"error":{"code":500,"message":"image input is not supported - hint: if this is unexpected, '
    'you may need to provide the mmproj","type":"server_error"}}'
)


@dataclass(slots=True)
class Generating:
    """A checked request, ready to run."""

    exchange: Exchange
    body: dict[str, Any]
    installed: Installed
    chat: bool

    @property
    def options(self) -> dict[str, Any]:
        return self.body.get("options") or {}

    @property
    def asked_model(self) -> str:
        return str(self.body["model"])

    def chunk(self, text: str, thinking: str = "", **more: Any) -> dict[str, Any]:
        """One object of the answer; `more` goes into the message, or beside the response."""
        head: dict[str, Any] = {"model": self.asked_model, "created_at": utc_now()}
        thought = {"thinking": thinking} if thinking else {}
        if self.chat:
            head["message"] = {"role": "assistant", "content": text, **thought, **more}
        else:
            head |= {"response": text, **thought, **more}
        return {**head, "done": False}


class Generation(Part):
    """The two generating routes."""

    async def chat(self, exchange: Exchange) -> None:
        body = decode(exchange.request.body, fields.CHAT)
        _check_logprobs(body)
        if not body.get("model", "").strip():
            raise OllamaError(400, "model is required")
        installed = self.named(body["model"], OllamaError(404, f"model '{body['model']}' not found"))
        run = Generating(exchange, body, installed, chat=True)
        empty = not body.get("messages")
        if empty and body.get("keep_alive") == 0:
            await self._unload(run)
            return
        check_skills(installed, body["model"], "chat", think=body.get("think"), tools=bool(body.get("tools")))
        await self._run(run, empty=empty)

    async def generate(self, exchange: Exchange) -> None:
        body = decode(exchange.request.body, fields.GENERATE)
        _check_logprobs(body)
        body.setdefault("model", "")
        missing = OllamaError(404, f"model '{body['model']}' not found")
        if not body["model"].strip():
            raise missing
        installed = self.named(body["model"], missing)
        run = Generating(exchange, body, installed, chat=False)
        empty = not body.get("prompt")
        if empty and body.get("keep_alive") == 0:
            await self._unload(run)
            return
        if body.get("raw") and (body.get("template") or body.get("system") or body.get("context")):
            raise OllamaError(400, "raw mode does not support template, system, or context")
        check_skills(installed, body["model"], "generate", think=body.get("think"), suffix=bool(body.get("suffix")))
        await self._run(run, empty=empty)

    async def _unload(self, run: Generating) -> None:
        self.core.engine.unload(run.installed.model.name)
        await self.json(run.exchange, {**run.chunk(""), "done": True, "done_reason": "unload"})

    async def _run(self, run: Generating, *, empty: bool) -> None:
        options, body, model = run.options, run.body, run.installed.model
        fields.check_options(options)
        setup = fields.setup(options, body.get("shift"))
        if empty:
            await self.core.engine.load(model, setup=setup, keep_alive=body.get("keep_alive"))
            await self.json(run.exchange, {**run.chunk(""), "done": True, "done_reason": "load"})
            return
        streamed = body.get("stream", True)
        crash = run.exchange.fault
        async with self.core.engine.session(
            model, setup=setup, keep_alive=body.get("keep_alive"), crash=crash
        ) as session:
            ask = _ask(run)
            answer = compose(self.core.options, ask, encode)
            await session.prefill(ask.prompt_tokens)
            await (self._stream(run, session, ask, answer) if streamed else self._whole(run, session, ask, answer))

    async def _stream(self, run: Generating, session: Session, ask: Ask, answer: Answer) -> None:
        send = run.exchange.send
        calls = [call_of(answer)] if answer.call else []
        rows = [("", piece) for piece in answer.thinking] + [(piece, "") for piece in answer.tokens]
        for text, thought in rows:
            await session.token()
            if not run.exchange.started:
                await run.exchange.start(200, NDJSON)
            await send(encode({**run.chunk(text, thought), **_logprobs(run, [text or thought])}) + b"\n")
        for _ in range(answer.count - len(rows)):
            await session.token()
        if not run.exchange.started:
            await run.exchange.start(200, NDJSON)
        early = bool(calls) and run.installed.model.can("thinking")
        if early:
            await send(encode(run.chunk("", tool_calls=calls)) + b"\n")
        last = run.chunk("", tool_calls=calls) if calls and not early else run.chunk("")
        await send(encode(_closed(run, last, session, ask, answer)) + b"\n")
        await run.exchange.finish()

    async def _whole(self, run: Generating, session: Session, ask: Ask, answer: Answer) -> None:
        for _ in range(answer.count):
            await session.token()
        calls = {"tool_calls": [call_of(answer)]} if answer.call else {}
        closed = _closed(run, run.chunk(answer.text, "".join(answer.thinking), **calls), session, ask, answer)
        await self.json(run.exchange, {**closed, **_logprobs(run, [*answer.thinking, *answer.tokens])})


def _closed(run: Generating, chunk: dict[str, Any], session: Session, ask: Ask, answer: Answer) -> dict[str, Any]:
    """The last object: why it ended and what it took, zeros left out."""
    closing: dict[str, Any] = {"done": True, "done_reason": answer.finish}
    if not run.chat and not run.body.get("raw"):
        closing["context"] = [
            zlib.crc32(token.encode()) % 262144 for token in (*tokens_of(ask.message), *answer.tokens)
        ]
    return {**chunk, **closing, **metrics(session, ask.prompt_tokens, answer.count)}


def metrics(session: Session, prompt_tokens: int, generated: int) -> dict[str, int]:
    """Ollama's counts and nanoseconds."""
    numbers = {
        "total_duration": _nanoseconds(session.total_seconds),
        "load_duration": _nanoseconds(session.load_seconds),
        "prompt_eval_count": prompt_tokens,
        "prompt_eval_duration": _nanoseconds(session.prefill_seconds),
        "eval_count": generated,
        "eval_duration": _nanoseconds(session.decode_seconds),
    }
    return {name: number for name, number in numbers.items() if number}


def _nanoseconds(seconds: float) -> int:
    return math.ceil(seconds * 1e9)


def check_skills(
    installed: Installed, asked: str, use: str, *, think: Any = None, tools: bool = False, suffix: bool = False
) -> None:
    """Raises OllamaError for what the model cannot do."""
    model = installed.model
    if think and not model.can("thinking"):
        raise OllamaError(400, f'"{asked}" does not support thinking')
    if not model.can("completion"):
        raise OllamaError(400, f'"{asked}" does not support {use}')
    if tools and not model.can("tools"):
        raise OllamaError(400, f"{installed.name.full} does not support tools")
    if suffix and not model.can("insert"):
        raise OllamaError(400, f"{installed.name.full} does not support insert")


def _check_logprobs(body: dict[str, Any]) -> None:
    if not 0 <= body.get("top_logprobs", 0) <= 20:
        raise OllamaError(400, "top_logprobs must be between 0 and 20")


def _logprobs(run: Generating, tokens: list[str]) -> dict[str, Any]:
    if not run.body.get("logprobs"):
        return {}
    rows = [logprob(token, run.body.get("top_logprobs", 0)) for token in tokens if token]
    return {
        "logprobs": [{name: value for name, value in row.items() if value or name != "top_logprobs"} for row in rows]
    }


def _ask(run: Generating) -> Ask:
    """What is asked of the model, the prompt fitted into the context. Raises OllamaError when it does not fit."""
    body, options, model = run.body, run.options, run.installed.model
    shape = fields.read_format(body.get("format"))
    room = Room.of(
        model, fields.integer(options, "num_ctx"), truncate=body.get("truncate", True), shift=body.get("shift", True)
    )
    prompt = fit_messages(body["messages"], room) if run.chat else _generate_prompt(body, room)
    if prompt.images and not model.can("vision"):
        raise OllamaError(500, IMAGES)
    wanted = fields.integer(options, "num_predict")
    limits = [] if wanted is None or wanted < 0 else [wanted]
    if not room.shift:
        limits.append(max(1, room.tokens - prompt.tokens))
    think = body.get("think", model.can("thinking"))
    functions = [tool.get("function", {}) for tool in body.get("tools", [])]
    return Ask(
        model=model.name,
        message=prompt.message,
        prompt_tokens=prompt.tokens,
        tool_result=prompt.tool_result,
        tools=tuple(Tool(function.get("name", ""), function.get("parameters") or {}) for function in functions),
        schema=shape,
        thinking=bool(think),
        max_tokens=min(limits) if limits else 10 * room.tokens,
        stop=tuple(options.get("stop") or ()),
        said=prompt.said,
        raw=bool(body.get("raw")),
    )


def _generate_prompt(body: dict[str, Any], room: Room) -> Prompt:
    extra = len(tokens_of(body.get("system", "") + body.get("suffix", ""))) + len(body.get("context", ()))
    return fit_text(body["prompt"], extra, len(body.get("images", ())), room)


class GenerationRoutes(Generation):
    """Where the two live."""

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self.routes = {
            "/api/chat": {"POST": self.route(self.chat, generates=True)},
            "/api/generate": {"POST": self.route(self.generate, generates=True)},
        }
