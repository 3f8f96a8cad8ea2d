"""llama.cpp's llama-server b11669, modelled on recordings of the real one."""

import time
from typing import Any

from penstock.sim.exchange import Exchange, Headers, Style
from penstock.sim.generated_text import tokens_of, unit_vector
from penstock.sim.kind import Kind, Route
from penstock.sim.kinds.llamacpp.answers import FINGERPRINT, Chat, Completions
from penstock.sim.openai.request import (
    BrokenJsonError,
    parse_json,
    read_ask,
    read_completion,
    read_prompt,
    read_prompts,
    read_wish,
)
from penstock.sim.openai.response import encode_embedding
from penstock.sim.options import SimModel, SimOptions
from penstock.sim.speed_model import EngineCrashError, SpeedModel

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    501: "not_supported_error",
    503: "unavailable_error",
}
_ALLOWED_WHILE_LOADING = frozenset({"/models", "/v1/models", "/api/tags"})
_PARTS = frozenset({"text", "image_url", "input_audio"})
_VALUES = "expected '[', '{', or a literal"


def _build_headers(_status: int) -> Headers:
    return (("Server", "llama.cpp"), ("Access-Control-Allow-Origin", ""), ("Keep-Alive", "timeout=5, max=100"))


class RefusedError(Exception):
    """The request is answered with an error."""

    def __init__(self, status: int, message: str, kind: str | None = None, **more: int) -> None:
        super().__init__(message)
        self.status, self.message, self.kind, self.more = status, message, kind, more


class LlamaCpp(Kind):
    """One model, whatever name is requested; answers 503 while it loads."""

    name = "llamacpp"
    default_models = ("qwen2.5:1.5b",)
    style = Style(
        headers=_build_headers,
        close_on_error=True,
        idle_seconds=5.0,
        max_requests=100,
        json_type="application/json; charset=utf-8",
    )
    one_model = True

    def __init__(self, engine: SpeedModel, options: SimOptions) -> None:
        super().__init__(engine, options)
        self._created = int(time.time())
        chat = {"POST": Route(self._handle_chat, generates=True)}
        completions = {"POST": Route(self._handle_completions, generates=True)}
        embeddings = {"POST": Route(self._handle_embeddings, generates=True)}
        health, models = {"GET": Route(self._handle_health)}, {"GET": Route(self._handle_models)}
        self.routes = {
            "/health": health,
            "/v1/health": health,
            "/models": models,
            "/v1/models": models,
            "/props": {"GET": Route(self._handle_props)},
            "/slots": {"GET": Route(self._handle_slots)},
            "/metrics": {"GET": Route(self._handle_metrics)},
            "/tokenize": {"POST": Route(self._handle_tokenize)},
            "/v1/chat/completions/input_tokens": {"POST": Route(self._input_tokens)},
            "/v1/audio/transcriptions": {"POST": Route(self._handle_transcriptions)},
            "/chat/completions": chat,
            "/v1/chat/completions": chat,
            "/v1/completions": completions,
            "/completions": completions,
            "/v1/embeddings": embeddings,
            "/embeddings": embeddings,
        }

    @property
    def _model(self) -> SimModel:
        return self.models[0]

    async def intercept(self, exchange: Exchange) -> bool:
        if self.engine.loading and exchange.request.path not in _ALLOWED_WHILE_LOADING:
            await self._reply_refusal(exchange, RefusedError(503, "Loading model"), code_last=True)
            return True
        return False

    async def answer_unknown_route(self, exchange: Exchange, allowed: tuple[str, ...]) -> None:
        await self._reply_refusal(exchange, RefusedError(404, "File Not Found"), code_last=True)

    def build_error_body(self, status: int, message: str) -> bytes:
        return self._build_refusal(RefusedError(status, message))

    def _build_refusal(self, refused: RefusedError, *, code_last: bool = False) -> bytes:
        error: dict[str, Any] = {
            "code": refused.status,
            "message": refused.message,
            "type": refused.kind or _TYPES.get(refused.status, "server_error"),
            **refused.more,
        }
        if code_last:
            error["code"] = error.pop("code")
        return self.encode_json({"error": error})

    async def _reply_refusal(self, exchange: Exchange, refused: RefusedError, *, code_last: bool = False) -> None:
        await exchange.reply(refused.status, self._build_refusal(refused, code_last=code_last), self.style.json_type)

    # what it is
    async def _handle_health(self, exchange: Exchange) -> None:
        await self.reply_json(exchange, {"status": "ok"})

    async def _handle_models(self, exchange: Exchange) -> None:
        model = self._model
        capability = "embedding" if model.has_capability("embedding") else "completion"
        details = {"parent_model": "", "format": "gguf", "family": "", "families": [""]}
        old = {
            "name": model.name,
            "model": model.name,
            "modified_at": "",
            "size": "",
            "digest": "",
            "type": "model",
            "description": "",
            "tags": [""],
            "capabilities": [capability, *(["multimodal"] if model.has_capability("vision") else [])],
            "parameters": "",
            "details": {**details, "parameter_size": "", "quantization_level": ""},
        }
        meta = {
            "vocab_type": 2,
            "n_vocab": 32000,
            "n_ctx": model.context_length,
            "n_ctx_train": model.context_length,
            "n_embd": 1024,
            "n_params": model.parameters,
            "size": model.size_bytes,
            "ftype": model.quantization,
        }
        modalities = ["text", "image"] if model.has_capability("vision") else ["text"]
        card = {
            "id": model.name,
            "aliases": [model.name],
            "tags": [],
            "object": "model",
            "architecture": {"input_modalities": modalities, "output_modalities": ["text"]},
            "created": self._created,
            "owned_by": "llamacpp",
            "meta": None if self.engine.loading else meta,
        }
        await self.reply_json(exchange, {"models": [old], "object": "list", "data": [card]})

    async def _handle_props(self, exchange: Exchange) -> None:
        model = self._model
        sampling = {"seed": 4294967295, "temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05, "max_tokens": -1}
        await self.reply_json(
            exchange,
            {
                "default_generation_settings": {"params": sampling, "n_ctx": model.context_length},
                "total_slots": self.options.slots,
                "model_alias": model.name,
                "model_ftype": model.quantization,
                "model_path": f"/models/{model.name}.gguf",
                "modalities": {"vision": model.has_capability("vision"), "video": False, "audio": False},
                "endpoint_slots": True,
                "endpoint_props": False,
                "endpoint_metrics": True,
                "chat_template": "",
                "chat_template_caps": {
                    "supports_tool_calls": model.has_capability("tools"),
                    "supports_tools": model.has_capability("tools"),
                },
                "build_info": FINGERPRINT,
                "is_sleeping": False,
            },
        )

    async def _handle_slots(self, exchange: Exchange) -> None:
        busy = self.engine.running
        ctx = self._model.context_length
        slots = range(self.options.slots)
        await self.reply_json(
            exchange, [{"id": at, "n_ctx": ctx, "speculative": False, "is_processing": at < busy} for at in slots]
        )

    async def _handle_metrics(self, exchange: Exchange) -> None:
        counters = self.engine.counters
        rows = (
            ("prompt_tokens_total", "counter", "Number of prompt tokens processed.", counters.prompt_tokens),
            ("tokens_predicted_total", "counter", "Number of generation tokens processed.", counters.generated_tokens),
            ("requests_processing", "gauge", "Number of requests processing.", self.engine.running),
            ("requests_deferred", "gauge", "Number of requests deferred.", self.engine.waiting),
        )
        lines = [
            f"# HELP llamacpp:{n} {text}\n# TYPE llamacpp:{n} {kind}\nllamacpp:{n} {value}\n"
            for n, kind, text, value in rows
        ]
        exchange.headers.append(("Process-Start-Time-Unix", str(self._created)))
        await exchange.reply(200, "".join(lines).encode(), "text/plain; version=0.0.4")

    async def _handle_tokenize(self, exchange: Exchange) -> None:
        try:
            text = str(_parse_body(exchange.request.body).get("content", ""))
        except RefusedError as refused:
            await self._reply_refusal(exchange, refused)
            return
        await self.reply_json(exchange, {"tokens": list(range(len(tokens_of(text))))})

    async def _input_tokens(self, exchange: Exchange) -> None:
        try:
            prompt = read_prompt(_parsed_chat(exchange.request.body)["messages"])
        except RefusedError as refused:
            await self._reply_refusal(exchange, refused)
            return
        await self.reply_json(exchange, {"input_tokens": prompt.tokens, "object": "response.input_tokens"})

    async def _handle_transcriptions(self, exchange: Exchange) -> None:
        await self._reply_refusal(exchange, RefusedError(501, "The current model does not support audio input."))

    # what it does
    async def _handle_chat(self, exchange: Exchange) -> None:
        try:
            body = _parsed_chat(exchange.request.body)
            _check_numbers(body)
            prompt = read_prompt(body["messages"])
            if prompt.images and not self._model.has_capability("vision"):
                hint = "hint: if this is unexpected, you may need to provide the mmproj"
                raise RefusedError(500, f"image input is not supported - {hint}", "server_error")
            self._check_room(prompt.tokens)
            ask = read_ask(body, self._model, prompt)
        except RefusedError as refused:
            await self._reply_refusal(exchange, refused)
            return
        await Chat(self, exchange, self._model, [ask], [self.compose_answer(ask)], read_wish(body)).run()

    async def _handle_completions(self, exchange: Exchange) -> None:
        try:
            body = _parse_body(exchange.request.body)
            prompts = read_prompts(body.get("prompt"))
            if not prompts:
                raise RefusedError(400, "[json.exception.out_of_range.403] key 'prompt' not found")
            _check_numbers(body)
            asks = [read_completion(body, self._model, text) for text in prompts]
            for ask in asks:
                self._check_room(ask.prompt_tokens)
        except RefusedError as refused:
            await self._reply_refusal(exchange, refused)
            return
        answers = [self.compose_answer(ask) for ask in asks]
        await Completions(self, exchange, self._model, asks, answers, read_wish(body)).run()

    async def _handle_embeddings(self, exchange: Exchange) -> None:
        try:
            if not self._model.has_capability("embedding"):
                raise RefusedError(501, "This server does not support embeddings. Start it with `--embeddings`")
            body = _parse_body(exchange.request.body)
            texts = read_prompts(body.get("input", body.get("content")))
            if not texts:
                raise RefusedError(400, '"input" or "content" must be provided')
        except RefusedError as refused:
            await self._reply_refusal(exchange, refused)
            return
        count = sum(len(tokens_of(text)) for text in texts)
        try:
            async with self.engine.open_session(self._model, crash=exchange.fault) as session:
                await session.read_prompt(count)
        except EngineCrashError:
            await self.reply_error(exchange, 500, Chat.broken)
            return
        form = body.get("encoding_format")
        encoding = {"encoding_format": form} if form == "base64" else {}
        rows = [
            {
                "embedding": encode_embedding(unit_vector(text, 1024), form),
                "index": at,
                "object": "embedding",
                **encoding,
            }
            for at, text in enumerate(texts)
        ]
        counted = {"prompt_tokens": count, "total_tokens": count}
        await self.reply_json(exchange, {"model": self._model.name, "object": "list", "usage": counted, "data": rows})

    def _check_room(self, tokens: int) -> None:
        limit = self._model.context_length
        if tokens >= limit:
            message = (
                f"request ({tokens} tokens) exceeds the available context size ({limit} tokens), try increasing it"
            )
            raise RefusedError(400, message, "exceed_context_size_error", n_prompt_tokens=tokens, n_ctx=limit)


def _parse_body(raw: bytes) -> dict[str, Any]:
    """Parse the body. Raises RefusedError with the message of llama.cpp's JSON library."""
    try:
        body = parse_json(raw)
    except BrokenJsonError as broken:
        before = raw[: broken.position]
        line, column = before.count(b"\n") + 1, len(before) - (before.rfind(b"\n") + 1) + 1
        where = f"parse error at line {line}, column {column}"
        what = f"unexpected end of input; {_VALUES}"
        if not broken.cut:
            read = raw[: broken.position + 1].decode("utf-8", "replace").lstrip("{[")
            what = f"invalid literal; last read: '{read}'"
        text = f"[json.exception.parse_error.101] {where}: syntax error while parsing value - {what}"
        raise RefusedError(400, text) from None
    return body if isinstance(body, dict) else {}


def _parsed_chat(raw: bytes) -> dict[str, Any]:
    """Parse the body of a chat. Raises RefusedError if its messages are invalid."""
    body = _parse_body(raw)
    if "messages" not in body:
        raise RefusedError(400, "'messages' is required")
    if not isinstance(body["messages"], list):
        raise RefusedError(400, "Expected 'messages' to be an array")
    for message in body["messages"]:
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else ():
            if not isinstance(part, dict) or part.get("type") not in _PARTS:
                raise RefusedError(400, "unsupported content[].type")
    return body


def _check_numbers(body: dict[str, Any]) -> None:
    limit = body.get("max_tokens", body.get("max_completion_tokens"))
    if isinstance(limit, int) and not -1 <= limit <= 2147483647:
        rule = "Value must be between -1 <= value <= 2147483647"
        raise RefusedError(400, f"Field 'max_tokens': {rule}, but got {limit}")
    for name in ("temperature", "top_p", "min_p", "max_tokens", "seed", "n"):
        value = body.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            word = {str: "string", bool: "boolean", list: "array", dict: "object"}[type(value)]
            text = f"[json.exception.type_error.302] type must be number, but is {word}"
            raise RefusedError(400, f"Field '{name}': {text}")


KIND = LlamaCpp
