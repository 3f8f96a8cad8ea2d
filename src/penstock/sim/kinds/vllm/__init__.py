"""vLLM 0.32's OpenAI-compatible server, modelled on recordings of the real one."""

import secrets
import time
from dataclasses import replace
from typing import Any

from penstock.sim.exchange import Exchange, Headers, Style, http_date
from penstock.sim.generated_text import tokens_of, unit_vector
from penstock.sim.kind import Kind, Route
from penstock.sim.kinds.vllm.answers import Chat, Completions
from penstock.sim.kinds.vllm.validation import RefusedError, check_chat, validate_body
from penstock.sim.openai.request import read_ask, read_completion, read_limit, read_prompt, read_prompts, read_wish
from penstock.sim.openai.response import encode_embedding
from penstock.sim.options import SimModel, SimOptions
from penstock.sim.speed_model import SpeedModel

_VERSION = "0.32.0"
_NUMBERS = {
    "temperature": float,
    "top_p": float,
    "max_tokens": int,
    "max_completion_tokens": int,
    "n": int,
    "seed": int,
}
_TYPES = {
    400: "BadRequestError",
    404: "NotFoundError",
    429: "RateLimitError",
    500: "InternalServerError",
    503: "ServiceUnavailableError",
}


def _build_headers(_status: int) -> Headers:
    return (("date", http_date()), ("server", "uvicorn"), ("vary", "Origin"))


class Vllm(Kind):
    """One model (others are aliases, as LoRA adapters are); does not listen before it is loaded; no queue limit."""

    name = "vllm"
    default_models = ("meta-llama/Meta-Llama-3.1-8B-Instruct",)
    style = Style(headers=_build_headers, lower=True, idle_seconds=5.0)
    one_model = True
    refuses_while_loading = True

    def __init__(self, engine: SpeedModel, options: SimOptions) -> None:
        super().__init__(engine, options)
        self._created = int(time.time())
        self.routes = {
            "/health": {"GET": Route(self._handle_health)},
            "/ping": {"GET": Route(self._handle_health), "POST": Route(self._handle_health)},
            "/version": {"GET": Route(self._handle_version)},
            "/v1/models": {"GET": Route(self._handle_models)},
            "/metrics": {"GET": Route(self._handle_metrics)},
            "/tokenize": {"POST": Route(self._handle_tokenize)},
            "/v1/chat/completions": {"POST": Route(self._handle_chat, generates=True)},
            "/v1/completions": {"POST": Route(self._handle_completions, generates=True)},
        }
        if any(model.has_capability("embedding") for model in self.models):
            self.routes["/v1/embeddings"] = {"POST": Route(self._handle_embeddings, generates=True)}

    async def answer_unknown_route(self, exchange: Exchange, allowed: tuple[str, ...]) -> None:
        if allowed:
            exchange.headers.append(("allow", ", ".join(allowed)))
            await self.reply_json(exchange, {"detail": "Method Not Allowed"}, 405)
        else:
            await self.reply_json(exchange, {"detail": "Not Found"}, 404)

    def build_error_body(self, status: int, message: str) -> bytes:
        return self._build_refusal(RefusedError(status, message))

    def _build_refusal(self, refused: RefusedError) -> bytes:
        kind = refused.kind or _TYPES.get(refused.status, "InternalServerError")
        return self.encode_json(
            {"error": {"message": refused.message, "type": kind, "param": refused.param, "code": refused.status}}
        )

    async def _reply_refusal(self, exchange: Exchange, refused: RefusedError) -> None:
        await exchange.reply(refused.status, self._build_refusal(refused), self.style.json_type)

    async def _handle_health(self, exchange: Exchange) -> None:
        await exchange.reply(200)

    async def _handle_version(self, exchange: Exchange) -> None:
        await self.reply_json(exchange, {"version": _VERSION})

    async def _handle_models(self, exchange: Exchange) -> None:
        await self.reply_json(exchange, {"object": "list", "data": [self._build_card(model) for model in self.models]})

    def _build_card(self, model: SimModel) -> dict[str, Any]:
        permission = {
            "id": f"modelperm-{secrets.token_hex(8)}",
            "object": "model_permission",
            "created": self._created,
            "allow_create_engine": False,
            "allow_sampling": True,
            "allow_logprobs": True,
            "allow_search_indices": False,
            "allow_view": True,
            "allow_fine_tuning": False,
            "organization": "*",
            "group": None,
            "is_blocking": False,
        }
        return {
            "id": model.name,
            "object": "model",
            "created": self._created,
            "owned_by": "vllm",
            "root": model.name,
            "parent": None,
            "max_model_len": model.context_length,
            "permission": [permission],
        }

    async def _handle_metrics(self, exchange: Exchange) -> None:
        counters, labels = self.engine.counters, f'{{engine="0",model_name="{self.models[0].name}"}}'
        rows = (
            ("num_requests_running", "gauge", "Number of requests in model execution batches.", self.engine.running),
            ("num_requests_waiting", "gauge", "Number of requests waiting to be processed.", self.engine.waiting),
            (
                "kv_cache_usage_perc",
                "gauge",
                "KV-cache usage. 1 means 100 percent usage.",
                self.engine.running / self.options.slots,
            ),
            ("prompt_tokens_total", "counter", "Number of prefill tokens processed.", counters.prompt_tokens),
            ("generation_tokens_total", "counter", "Number of generation tokens processed.", counters.generated_tokens),
            ("request_success_total", "counter", "Count of successfully processed requests.", counters.completed),
        )
        lines = [
            f"# HELP vllm:{n} {text}\n# TYPE vllm:{n} {kind}\nvllm:{n}{labels} {float(value)}\n"
            for n, kind, text, value in rows
        ]
        await exchange.reply(200, "".join(lines).encode(), "text/plain; version=1.0.0; charset=utf-8")

    async def _handle_tokenize(self, exchange: Exchange) -> None:
        try:
            body = validate_body(exchange.request)
            model = self._find_model(body)
        except RefusedError as refused:
            await self._reply_refusal(exchange, refused)
            return
        messages, prompt = body.get("messages"), body.get("prompt")
        count = read_prompt(messages).tokens if isinstance(messages, list) else len(tokens_of(str(prompt)))
        response = {
            "count": count,
            "max_model_len": model.context_length,
            "tokens": list(range(count)),
            "token_strs": None,
        }
        await self.reply_json(exchange, response)

    # requests
    async def _handle_chat(self, exchange: Exchange) -> None:
        try:
            body = validate_body(exchange.request, "messages", list)
            model = self._find_model(body)
            check_chat(body)
            prompt = read_prompt(body["messages"])
            if prompt.images and not model.has_capability("vision"):
                raise RefusedError(400, f"{model.name} is not a multimodal model")
            if body.get("tools") and body.get("tool_choice", "auto") == "auto" and not model.has_capability("tools"):
                needs = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
                raise RefusedError(400, needs)
            self._check_room(model, prompt.tokens, read_limit(body))
            answer_start = prompt.answer_start if body.get("continue_final_message") is True else ""
            ask = read_ask(body, model, replace(prompt, answer_start=answer_start))
        except RefusedError as refused:
            await self._reply_refusal(exchange, refused)
            return
        await Chat(self, exchange, model, [ask], [self.compose_answer(ask)], read_wish(body)).run()

    async def _handle_completions(self, exchange: Exchange) -> None:
        try:
            body = validate_body(exchange.request)
            model = self._find_model(body)
            prompts = read_prompts(body.get("prompt"))
            if not prompts:
                needed = "Either prompt or prompt_embeds must be provided and non-empty."
                raise RefusedError.for_parameter(needed, "prompt")
            asks = [read_completion({"max_tokens": 16, **body}, model, text) for text in prompts]
            for ask in asks:
                self._check_room(model, ask.prompt_tokens, read_limit(body))
        except RefusedError as refused:
            await self._reply_refusal(exchange, refused)
            return
        await Completions(
            self, exchange, model, asks, [self.compose_answer(ask) for ask in asks], read_wish(body)
        ).run()

    async def _handle_embeddings(self, exchange: Exchange) -> None:
        try:
            body = validate_body(exchange.request, "input")
            model = self._find_model(body)
        except RefusedError as refused:
            await self._reply_refusal(exchange, refused)
            return
        texts = read_prompts(body["input"])
        count = sum(len(tokens_of(text)) for text in texts)
        async with self.engine.open_session(model, crash=exchange.fault) as session:
            await session.read_prompt(count)
        size = body["dimensions"] if isinstance(body.get("dimensions"), int) else 768
        form = body.get("encoding_format")
        data = [
            {"index": at, "object": "embedding", "embedding": encode_embedding(unit_vector(text, size), form)}
            for at, text in enumerate(texts)
        ]
        counted = {"prompt_tokens": count, "total_tokens": count, "completion_tokens": 0, "prompt_tokens_details": None}
        head = {
            "id": f"embd-{secrets.token_hex(8)}",
            "object": "list",
            "created": int(time.time()),
            "model": model.name,
        }
        await self.reply_json(exchange, {**head, "data": data, "usage": counted})

    def _find_model(self, body: dict[str, Any]) -> SimModel:
        wanted = body.get("model") or self.models[0].name
        for model in self.models:
            if model.name == wanted:
                return model
        known = ", ".join(model.name for model in self.models)
        raise RefusedError(
            404, f"The model `{wanted}` does not exist. Valid aliases: {known}.", "NotFoundError", "model"
        )

    def _check_room(self, model: SimModel, tokens: int, limit: int | None) -> None:
        most = model.context_length
        if limit is not None and limit < 1:
            raise RefusedError.for_parameter(f"max_tokens must be at least 1, got {limit}.", "max_tokens", limit)
        if limit is not None and limit > most:
            text = (
                f"max_tokens={limit} cannot be greater than max_model_len={most}. Please request fewer output tokens."
            )
            raise RefusedError.for_parameter(text, "max_tokens", limit)
        if tokens + (limit or 1) <= most:
            return
        reduce = "Please reduce the length of the input prompt."
        asked = f"you requested {limit} output tokens and your prompt contains at least {tokens} input tokens."
        if tokens >= most:
            exceeds = "which exceeds this limit even without any output tokens"
            tokens = most + 1
            asked = f"your prompt contains at least {tokens} input tokens, {exceeds}."
        text = f"This model's maximum context length is {most} tokens. However, {asked} {reduce}"
        raise RefusedError.for_parameter(text, "input_tokens", tokens)


KIND = Vllm
