"""`/api/chat` and `/api/generate`: validated in Ollama's order, streamed as NDJSON or answered in one object."""

import math
import zlib
from dataclasses import dataclass
from typing import Any

from penstock.sim.exchange import Exchange
from penstock.sim.generated_text import Answer, GenerationRequest, Tool, compose_answer, tokens_of
from penstock.sim.kinds.ollama.fields import CHAT, GENERATE, check_options, integer_option, load_parameters, read_format
from penstock.sim.kinds.ollama.go_json import decode_fields
from penstock.sim.kinds.ollama.handler import NDJSON, Core, Handlers, OllamaError, encode_json
from penstock.sim.kinds.ollama.library import Installed, utc_now
from penstock.sim.kinds.ollama.prompt import ContextWindow, fit_messages, fit_text
from penstock.sim.kinds.ollama.tool_calls import call_of
from penstock.sim.openai.request import Prompt
from penstock.sim.openai.response import build_logprob
from penstock.sim.speed_model import Session

IMAGES = (
    '{"error":{"code":500,"message":"image input is not supported - hint: if this is unexpected, '
    'you may need to provide the mmproj","type":"server_error"}}'
)


@dataclass(slots=True)
class Generating:
    """A validated request, ready to run."""

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

    def build_chunk(self, text: str, thinking: str = "", **more: Any) -> dict[str, Any]:
        """Build one object of the answer; `more` goes into the message, or beside the response."""
        head: dict[str, Any] = {"model": self.asked_model, "created_at": utc_now()}
        thought = {"thinking": thinking} if thinking else {}
        if self.chat:
            head["message"] = {"role": "assistant", "content": text, **thought, **more}
        else:
            head |= {"response": text, **thought, **more}
        return {**head, "done": False}


class Generation(Handlers):
    """Handlers of the two generating routes."""

    async def handle_chat(self, exchange: Exchange) -> None:
        body = decode_fields(exchange.request.body, CHAT)
        _check_logprobs(body)
        if not body.get("model", "").strip():
            raise OllamaError(400, "model is required")
        installed = self.find_installed(body["model"], OllamaError(404, f"model '{body['model']}' not found"))
        run = Generating(exchange, body, installed, chat=True)
        empty = not body.get("messages")
        if empty and body.get("keep_alive") == 0:
            await self._unload_model(run)
            return
        check_skills(installed, body["model"], "chat", think=body.get("think"), tools=bool(body.get("tools")))
        await self._run_generation(run, empty=empty)

    async def handle_generate(self, exchange: Exchange) -> None:
        body = decode_fields(exchange.request.body, GENERATE)
        _check_logprobs(body)
        body.setdefault("model", "")
        missing = OllamaError(404, f"model '{body['model']}' not found")
        if not body["model"].strip():
            raise missing
        installed = self.find_installed(body["model"], missing)
        run = Generating(exchange, body, installed, chat=False)
        empty = not body.get("prompt")
        if empty and body.get("keep_alive") == 0:
            await self._unload_model(run)
            return
        if body.get("raw") and (body.get("template") or body.get("system") or body.get("context")):
            raise OllamaError(400, "raw mode does not support template, system, or context")
        check_skills(installed, body["model"], "generate", think=body.get("think"), suffix=bool(body.get("suffix")))
        await self._run_generation(run, empty=empty)

    async def _unload_model(self, run: Generating) -> None:
        self.core.engine.unload_model(run.installed.model.name)
        await self.reply_json(run.exchange, {**run.build_chunk(""), "done": True, "done_reason": "unload"})

    async def _run_generation(self, run: Generating, *, empty: bool) -> None:
        options, body, model = run.options, run.body, run.installed.model
        check_options(options)
        setup = load_parameters(options, body.get("shift"))
        if empty:
            await self.core.engine.load_model(model, setup=setup, keep_alive=body.get("keep_alive"))
            await self.reply_json(run.exchange, {**run.build_chunk(""), "done": True, "done_reason": "load"})
            return
        streamed = body.get("stream", True)
        crash = run.exchange.fault
        async with self.core.engine.open_session(
            model, setup=setup, keep_alive=body.get("keep_alive"), crash=crash
        ) as session:
            ask = _build_prompt(run)
            answer = compose_answer(self.core.options, ask, encode_json)
            await session.read_prompt(ask.prompt_tokens)
            await (
                self._send_stream(run, session, ask, answer)
                if streamed
                else self._send_complete(run, session, ask, answer)
            )

    async def _send_stream(self, run: Generating, session: Session, ask: GenerationRequest, answer: Answer) -> None:
        send = run.exchange.send
        calls = [call_of(answer)] if answer.call else []
        rows = [("", piece) for piece in answer.thinking] + [(piece, "") for piece in answer.tokens]
        for text, thought in rows:
            await session.generate_token()
            if not run.exchange.started:
                await run.exchange.start(200, NDJSON)
            await send(
                encode_json({**run.build_chunk(text, thought), **_build_logprobs(run, [text or thought])}) + b"\n"
            )
        for _ in range(answer.token_count - len(rows)):
            await session.generate_token()
        if not run.exchange.started:
            await run.exchange.start(200, NDJSON)
        early = bool(calls) and run.installed.model.has_capability("thinking")
        if early:
            await send(encode_json(run.build_chunk("", tool_calls=calls)) + b"\n")
        last = run.build_chunk("", tool_calls=calls) if calls and not early else run.build_chunk("")
        await send(encode_json(_build_last_object(run, last, session, ask, answer)) + b"\n")
        await run.exchange.finish()

    async def _send_complete(self, run: Generating, session: Session, ask: GenerationRequest, answer: Answer) -> None:
        for _ in range(answer.token_count):
            await session.generate_token()
        calls = {"tool_calls": [call_of(answer)]} if answer.call else {}
        closed = _build_last_object(
            run, run.build_chunk(answer.text, "".join(answer.thinking), **calls), session, ask, answer
        )
        await self.reply_json(run.exchange, {**closed, **_build_logprobs(run, [*answer.thinking, *answer.tokens])})


def _build_last_object(
    run: Generating, chunk: dict[str, Any], session: Session, ask: GenerationRequest, answer: Answer
) -> dict[str, Any]:
    """Build the last object: the reason for the end and the durations, zeros omitted."""
    closing: dict[str, Any] = {"done": True, "done_reason": answer.finish}
    if not run.chat and not run.body.get("raw"):
        closing["context"] = [
            zlib.crc32(token.encode()) % 262144 for token in (*tokens_of(ask.message), *answer.tokens)
        ]
    return {**chunk, **closing, **build_metrics(session, ask.prompt_tokens, answer.token_count)}


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


def check_skills(
    installed: Installed, asked: str, use: str, *, think: Any = None, tools: bool = False, suffix: bool = False
) -> None:
    """Raise OllamaError if the model lacks a required capability."""
    model = installed.model
    if think and not model.has_capability("thinking"):
        raise OllamaError(400, f'"{asked}" does not support thinking')
    if not model.has_capability("completion"):
        raise OllamaError(400, f'"{asked}" does not support {use}')
    if tools and not model.has_capability("tools"):
        raise OllamaError(400, f"{installed.name.full} does not support tools")
    if suffix and not model.has_capability("insert"):
        raise OllamaError(400, f"{installed.name.full} does not support insert")


def _check_logprobs(body: dict[str, Any]) -> None:
    if not 0 <= body.get("top_logprobs", 0) <= 20:
        raise OllamaError(400, "top_logprobs must be between 0 and 20")


def _build_logprobs(run: Generating, tokens: list[str]) -> dict[str, Any]:
    if not run.body.get("logprobs"):
        return {}
    rows = [build_logprob(token, run.body.get("top_logprobs", 0)) for token in tokens if token]
    return {
        "logprobs": [{name: value for name, value in row.items() if value or name != "top_logprobs"} for row in rows]
    }


def _build_prompt(run: Generating) -> GenerationRequest:
    """Build the request to the model, its prompt fitted into the context. Raises OllamaError if it does not fit."""
    body, options, model = run.body, run.options, run.installed.model
    shape = read_format(body.get("format"))
    room = ContextWindow.for_model(
        model,
        integer_option(options, "num_ctx"),
        truncate=body.get("truncate", True),
        shift=body.get("shift", True),
    )
    prompt = fit_messages(body["messages"], room) if run.chat else _generate_prompt(body, room)
    if prompt.images and not model.has_capability("vision"):
        raise OllamaError(500, IMAGES)
    wanted = integer_option(options, "num_predict")
    limits = [] if wanted is None or wanted < 0 else [wanted]
    if not room.shift:
        limits.append(max(1, room.tokens - prompt.tokens))
    think = body.get("think", model.has_capability("thinking"))
    functions = [tool.get("function", {}) for tool in body.get("tools", [])]
    return GenerationRequest(
        model=model.name,
        message=prompt.message,
        prompt_tokens=prompt.tokens,
        tool_result=prompt.tool_result,
        tools=tuple(Tool(function.get("name", ""), function.get("parameters") or {}) for function in functions),
        schema=shape,
        thinking=bool(think),
        max_tokens=min(limits) if limits else 10 * room.tokens,
        stop=tuple(options.get("stop") or ()),
        answer_start=prompt.answer_start,
        raw=bool(body.get("raw")),
    )


def _generate_prompt(body: dict[str, Any], room: ContextWindow) -> Prompt:
    extra = len(tokens_of(body.get("system", "") + body.get("suffix", ""))) + len(body.get("context", ()))
    return fit_text(body["prompt"], extra, len(body.get("images", ())), room)


class GenerationRoutes(Generation):
    """The two generating routes."""

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self.routes = {
            "/api/chat": {"POST": self.guard_route(self.handle_chat, generates=True)},
            "/api/generate": {"POST": self.guard_route(self.handle_generate, generates=True)},
        }
