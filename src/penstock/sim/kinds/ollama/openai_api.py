"""Ollama's own `/v1`: OpenAI's chat, completions, embeddings and models, with Ollama's deviations."""

import random
import time
from dataclasses import dataclass, field, replace
from typing import Any

from penstock.sim.exchange import Exchange
from penstock.sim.generated_text import Answer, GenerationRequest, compose_answer, tokens_of
from penstock.sim.kinds.ollama.answers import create_call_id
from penstock.sim.kinds.ollama.embedding import Embedding
from penstock.sim.kinds.ollama.generation import check_skills
from penstock.sim.kinds.ollama.go.decoder import BadBodyError, Slice, Struct, decode_fields
from penstock.sim.kinds.ollama.go.text import encode_json
from penstock.sim.kinds.ollama.handler import BUSY, CRASHED, Core, Handlers, OllamaError
from penstock.sim.kinds.ollama.library import Installed
from penstock.sim.kinds.ollama.prompt import ContextWindow, drop_old_messages, fit_completion, measure_messages
from penstock.sim.kinds.ollama.request_options import integer_option, load_parameters
from penstock.sim.openai.request import Wish, read_ask, read_prompt, read_wish
from penstock.sim.openai.response import DONE, EVENTS, arguments_text, build_logprob, build_usage, encode_embedding
from penstock.sim.speed_model import EngineCrashError, QueueFullError, Session

_TYPES = {400: "invalid_request_error", 404: "not_found_error"}
_EFFORTS = frozenset({"none", "minimal", "low", "medium", "high", "xhigh", "ultra", "max"})
_ANY = "interface {}"
_SAMPLING = dict.fromkeys(
    ("max_tokens", "seed", "stop", "temperature", "top_p", "frequency_penalty", "presence_penalty"), _ANY
)
_CHAT = Struct(
    "ChatCompletionRequest",
    {
        "model": "string",
        "messages": Slice(_ANY, "[]openai.Message"),
        "stream": "bool",
        "stream_options": _ANY,
        "response_format": _ANY,
        "tools": Slice(_ANY, "[]api.Tool"),
        "reasoning": _ANY,
        "reasoning_effort": "string",
        "logprobs": "bool",
        "top_logprobs": "int",
        **_SAMPLING,
    },
    "openai",
)
_COMPLETION = Struct(
    "CompletionRequest",
    {
        "model": "string",
        "prompt": "string",
        "suffix": "string",
        "stream": "bool",
        "stream_options": _ANY,
        "logprobs": "int",
        **_SAMPLING,
    },
    "openai",
)
_EMBEDDING = Struct(
    "EmbedRequest", {"model": "string", "input": _ANY, "dimensions": "int", "encoding_format": "string"}, "openai"
)


@dataclass(slots=True)
class _Reply:
    """One generation, sent as OpenAI's events or as one object."""

    exchange: Exchange
    model: str
    ask: GenerationRequest
    answer: Answer
    wish: Wish
    chat: bool
    created: int = field(default_factory=lambda: int(time.time()))
    number: int = field(default_factory=lambda: random.randint(0, 998))

    def common_fields(self, kind: str) -> dict[str, Any]:
        prefix = "chatcmpl" if self.chat else "cmpl"
        head: dict[str, Any] = {"id": f"{prefix}-{self.number}", "object": kind, "created": self.created}
        return {**head, "model": self.model, "system_fingerprint": "fp_ollama"}

    def build_usage(self) -> dict[str, int]:
        counted = build_usage(self.ask.prompt_tokens, self.answer.token_count)
        return {name: counted[name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")}

    @property
    def finish_reason(self) -> str:
        return "tool_calls" if self.answer.call else self.answer.finish

    def build_tool_calls(self) -> list[dict[str, Any]]:
        call = self.answer.call
        if call is None:
            return []
        function = {"name": call.name, "arguments": arguments_text(call.arguments)}
        return [{"id": create_call_id(), "index": 0, "type": "function", "function": function}]

    def build_logprobs(self, tokens: list[str]) -> dict[str, Any]:
        if self.wish.logprobs is None:
            return {}
        return {"logprobs": {"content": [build_logprob(token, self.wish.logprobs) for token in tokens if token]}}


class OpenAIApi(Handlers):
    """The routes under `/v1`."""

    def __init__(self, core: Core, embeddings: Embedding) -> None:
        super().__init__(core)
        self._embedding = embeddings
        self.routes = {
            "/v1/chat/completions": {"POST": self.guard_route(self._handle_chat, generates=True)},
            "/v1/completions": {"POST": self.guard_route(self._handle_completion, generates=True)},
            "/v1/embeddings": {"POST": self.guard_route(self._handle_embeddings, generates=True)},
            "/v1/models": {"GET": self.guard_route(self._handle_models)},
            "/v1/models/*": {"GET": self.guard_route(self._handle_model)},
        }

    async def reply_error(self, exchange: Exchange, error: OllamaError) -> None:
        kind = _TYPES.get(error.status, "api_error")
        body = encode_json({"error": {"message": error.message, "type": kind, "param": None, "code": None}})
        await exchange.reply(error.status, body + b"\n", "application/json")

    async def _handle_chat(self, exchange: Exchange) -> None:
        body = _decode_body(exchange, _CHAT)
        if not body.get("messages"):
            raise OllamaError(400, "[] is too short - 'messages'")
        asked = body.get("model", "")
        missing = OllamaError(404, f"model '{asked}' not found")
        installed = self.find_installed(asked, OllamaError(400, "model is required"), missing, exchange.request.path)
        thinking = _wants_thinking(body)
        check_skills(installed, asked, "chat", think=thinking, tools=bool(body.get("tools")))
        window = ContextWindow.for_model(installed.model, integer_option(installed.parameters, "num_ctx"))
        messages = [message for message in body["messages"] if isinstance(message, dict)]
        prompt = measure_messages(drop_old_messages(messages, window))
        prompt = prompt if installed.is_native else fit_completion(prompt, window)
        if prompt.tokens >= window.runner_tokens:
            raise window.overflow_error(prompt.tokens)
        ask = read_ask(body, installed.model, prompt)
        ask = replace(ask, thinking=installed.model.has_capability("thinking") if thinking is None else thinking)
        await self._send_answer(exchange, installed, body, ask, chat=True)

    async def _handle_completion(self, exchange: Exchange) -> None:
        body = _decode_body(exchange, _COMPLETION)
        asked = body.get("model", "")
        missing = OllamaError(404, f"model '{asked}' not found")
        installed = self.find_installed(asked, missing, missing, exchange.request.path)
        check_skills(installed, asked, "generate", suffix=bool(body.get("suffix")))
        text = body.get("prompt", "")
        ask = read_ask(
            body, installed.model, replace(read_prompt([]), message=text, tokens=max(1, len(tokens_of(text))))
        )
        ask = replace(ask, thinking=False)
        if not text:
            self.remember_model(installed)
            await self.core.engine.load_model(installed.model, setup=load_parameters(installed.parameters, None))
            reply = _Reply(
                exchange, asked, replace(ask, prompt_tokens=0), Answer(finish="load"), read_wish(body), chat=False
            )
            await self.reply_json(exchange, _build_completion_choice(reply))
            return
        await self._send_answer(exchange, installed, body, ask, chat=False)

    async def _send_answer(
        self, exchange: Exchange, installed: Installed, body: dict[str, Any], ask: GenerationRequest, *, chat: bool
    ) -> None:
        engine, crash = self.core.engine, exchange.fault
        reply = _Reply(
            exchange, body["model"], ask, compose_answer(self.core.options, ask, encode_json), read_wish(body), chat
        )
        self.remember_model(installed)
        try:
            async with engine.open_session(
                installed.model, setup=load_parameters(installed.parameters, None), crash=crash
            ) as session:
                await session.read_prompt(ask.prompt_tokens)
                if reply.wish.stream:
                    await self._send_stream(reply, session)
                    return
                for _ in range(reply.answer.token_count):
                    await session.generate_token()
        except QueueFullError:
            raise OllamaError(503, BUSY) from None
        except EngineCrashError:
            if not exchange.started:
                raise OllamaError(500, CRASHED) from None
            # As in the real server, a failure in mid-stream is lost: an empty chunk without a model, and no [DONE].
            choices = [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]
            await exchange.send(
                _encode_event({**reply.common_fields("chat.completion.chunk"), "model": "", "choices": choices})
            )
            await exchange.finish()
            return
        await self.reply_json(exchange, _build_chat_choice(reply) if chat else _build_completion_choice(reply))

    async def _send_stream(self, reply: _Reply, session: Session) -> None:
        exchange, answer = reply.exchange, reply.answer
        rows = [({"content": "", "reasoning": piece}, piece) for piece in answer.thinking] + [
            ({"content": piece}, piece) for piece in answer.tokens
        ]
        for at, (piece, token) in enumerate(rows):
            await session.generate_token()
            opened = {"role": "assistant"} if at == 0 else {}
            await self._send_event(reply, {**opened, **piece}, [token])
        for _ in range(answer.token_count - len(rows)):
            await session.generate_token()
        if answer.call is not None:
            opened = {} if rows else {"role": "assistant"}
            await self._send_event(reply, {**opened, "content": "", "tool_calls": reply.build_tool_calls()}, [])
        await self._send_event(reply, {}, [], finish=reply.finish_reason)
        if reply.wish.include_usage:
            kind = "chat.completion.chunk" if reply.chat else "text_completion"
            await exchange.send(
                _encode_event({**reply.common_fields(kind), "choices": [], "usage": reply.build_usage()})
            )
        await exchange.send(DONE)
        await exchange.finish()

    async def _send_event(
        self, reply: _Reply, delta: dict[str, Any], tokens: list[str], *, finish: str | None = None
    ) -> None:
        if not reply.exchange.started:
            await reply.exchange.start(200, EVENTS)
        if reply.chat:
            chunk = reply.common_fields("chat.completion.chunk")
            choice = {
                "index": 0,
                "delta": delta,
                "finish_reason": finish,
                **(reply.build_logprobs(tokens) if tokens else {}),
            }
        else:
            chunk = reply.common_fields("text_completion")
            choice = {"text": delta.get("content", ""), "index": 0, "finish_reason": finish}
            if reply.wish.include_usage:
                chunk["usage"] = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        await reply.exchange.send(_encode_event({**chunk, "choices": [choice]}))

    async def _handle_embeddings(self, exchange: Exchange) -> None:
        body = _decode_body(exchange, _EMBEDDING)
        if body.get("input") in (None, []):
            raise OllamaError(400, "invalid input")
        body["input"] = body["input"] or [""]
        form = body.get("encoding_format", "float")
        if form not in {"float", "base64"}:
            raise OllamaError(
                400, f"Invalid value for 'encoding_format' = {form}. Supported values: ['float', 'base64']."
            )
        installed, texts = self._embedding.find_embedder(body, exchange.request.path)
        vectors, _, count = await self._embedding.embed_texts(exchange, installed, texts, body)
        data = [
            {"object": "embedding", "embedding": encode_embedding(row, form), "index": at}
            for at, row in enumerate(vectors)
        ]
        counted = {"prompt_tokens": count, "total_tokens": count}
        await self.reply_json(exchange, {"object": "list", "data": data, "model": body["model"], "usage": counted})

    async def _handle_models(self, exchange: Exchange) -> None:
        cards = [_build_card(installed) for installed in self.core.library.all()]
        await self.reply_json(exchange, {"object": "list", "data": cards or None})

    async def _handle_model(self, exchange: Exchange) -> None:
        asked = exchange.request.path.removeprefix("/v1/models/")
        if "/" in asked:
            await exchange.reply(404, b"404 page not found", "text/plain")
            return
        name = self.core.library.adopt_spelling(self.read_reference(asked, OllamaError(400, "model is required")).name)
        installed = self.core.library.find_exact(name)
        if installed is None:
            raise OllamaError(404, f"model '{name.display}' not found")
        await self.reply_json(exchange, {**_build_card(installed), "id": asked})


def _decode_body(exchange: Exchange, struct: Struct) -> dict[str, Any]:
    if not exchange.request.body:
        raise OllamaError(400, "EOF")
    try:
        return decode_fields(exchange.request.body, struct)
    except BadBodyError as error:
        raise OllamaError(400, str(error)) from None


def _wants_thinking(body: dict[str, Any]) -> bool | None:
    """Return True or False if the request sets thinking, else None."""
    reasoning = body.get("reasoning")
    effort = reasoning.get("effort") if isinstance(reasoning, dict) else None
    effort = body.get("reasoning_effort") or effort
    if not effort:
        return None
    if effort not in _EFFORTS:
        raise OllamaError(400, f"invalid reasoning value: '{effort}' (must be one of {', '.join(sorted(_EFFORTS))})")
    return bool(effort != "none")


def _build_card(installed: Installed) -> dict[str, Any]:
    created = int(installed.modified_at.timestamp())
    return {"id": installed.model.name, "object": "model", "created": created, "owned_by": installed.name.namespace}


def _build_chat_choice(reply: _Reply) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.answer.text}
    if reply.answer.thinking:
        message["reasoning"] = "".join(reply.answer.thinking)
    if reply.answer.call:
        message["tool_calls"] = reply.build_tool_calls()
    choice = {
        "index": 0,
        "message": message,
        "finish_reason": reply.finish_reason,
        **reply.build_logprobs(list(reply.answer.tokens)),
    }
    return {**reply.common_fields("chat.completion"), "choices": [choice], "usage": reply.build_usage()}


def _build_completion_choice(reply: _Reply) -> dict[str, Any]:
    choice = {"text": reply.answer.text, "index": 0, "finish_reason": reply.finish_reason}
    return {**reply.common_fields("text_completion"), "choices": [choice], "usage": reply.build_usage()}


def _encode_event(value: Any) -> bytes:
    return b"data: " + encode_json(value) + b"\n\n"
