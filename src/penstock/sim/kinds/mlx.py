"""The MLX API server: Ollama-like paths with rules of their own, 429 and 503 when busy, no token counts."""

import time
from typing import Any

from penstock.sim.exchange import Exchange, Headers, Style, http_date
from penstock.sim.generated_text import GenerationRequest, tokens_of
from penstock.sim.kind import Kind, Route
from penstock.sim.openai.request import BrokenJsonError, parse_json, read_prompt
from penstock.sim.options import SimModel, SimOptions
from penstock.sim.speed_model import EngineCrashError, QueueFullError, SpeedModel

_DEFAULT_TOKENS = 512
_BUSY = "Server is busy: the request queue is full, try again later"


def _build_headers(_status: int) -> Headers:
    return (("date", http_date()), ("server", "uvicorn"))


class Mlx(Kind):
    """Several models, loaded on demand; the queue is bounded by `queue_limit`."""

    name = "mlx"
    default_models = ("mlx-community/Qwen2.5-7B-Instruct-4bit", "mlx-community/Qwen2.5-1.5B-Instruct-4bit")
    style = Style(headers=_build_headers, lower=True, idle_seconds=5.0)

    def __init__(self, engine: SpeedModel, options: SimOptions) -> None:
        super().__init__(engine, options)
        self._began = time.time()
        self.routes = {
            "/": {"GET": Route(self._handle_root)},
            "/health": {"GET": Route(self._handle_health)},
            "/queue/stats": {"GET": Route(self._handle_queue)},
            "/api/tags": {"GET": Route(self._handle_tags)},
            "/api/generate": {"POST": Route(self._handle_generate, generates=True)},
            "/api/chat": {"POST": Route(self._handle_chat, generates=True)},
        }

    async def answer_unknown_route(self, exchange: Exchange, allowed: tuple[str, ...]) -> None:
        if allowed:
            exchange.headers.append(("allow", ", ".join(allowed)))
            await self.reply_json(exchange, {"detail": "Method Not Allowed"}, 405)
        else:
            await self.reply_json(exchange, {"detail": "Not Found"}, 404)

    def build_error_body(self, status: int, message: str) -> bytes:
        return self.encode_json({"detail": message})

    @property
    def _load_status(self) -> str:
        """One of healthy, degraded (some wait), warning (the queue is half full), critical (it is full)."""
        waiting, limit = self.engine.waiting, self.options.queue_limit
        if waiting >= limit:
            return "critical"
        if waiting * 2 >= limit:
            return "warning"
        return "degraded" if waiting else "healthy"

    async def _handle_root(self, exchange: Exchange) -> None:
        await self.reply_json(exchange, {"service": "MLX API Server", "status": "running"})

    async def _handle_health(self, exchange: Exchange) -> None:
        loaded = list(self.engine.residents)
        await self.reply_json(
            exchange,
            {
                "status": self._load_status,
                "active_requests": self.engine.running,
                "max_concurrent": self.options.slots,
                "queue_size": self.engine.waiting,
                "models_cached": len(loaded),
                "cached_models": loaded,
                "uptime": round(time.time() - self._began, 1),
            },
        )

    async def _handle_queue(self, exchange: Exchange) -> None:
        counters = self.engine.counters
        await self.reply_json(
            exchange,
            {
                "queue_size": self.engine.waiting,
                "max_queue_size": self.options.queue_limit,
                "active_requests": self.engine.running,
                "max_concurrent": self.options.slots,
                "completed": counters.completed,
                "cancelled": counters.cancelled,
            },
        )

    async def _handle_tags(self, exchange: Exchange) -> None:
        rows = [
            {
                "name": model.name,
                "model": model.name,
                "modified_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._began)),
                "size": model.size_bytes,
                "details": {
                    "format": "mlx",
                    "family": model.family,
                    "parameter_size": model.parameter_size,
                    "quantization_level": model.quantization.lower(),
                },
            }
            for model in self.models
        ]
        await self.reply_json(exchange, {"models": rows})

    async def _handle_generate(self, exchange: Exchange) -> None:
        body = await self._read_body(exchange, "prompt", str)
        if body is None:
            return
        prompt = body["prompt"]
        await self._send_answer(exchange, body, prompt, max(1, len(tokens_of(prompt))), chat=False)

    async def _handle_chat(self, exchange: Exchange) -> None:
        body = await self._read_body(exchange, "messages", list)
        if body is None:
            return
        prompt = read_prompt(body["messages"])
        await self._send_answer(exchange, body, prompt.message, prompt.tokens, chat=True)

    async def _read_body(self, exchange: Exchange, required: str, kind: type) -> dict[str, Any] | None:
        """Read the request; return None if it has been refused."""
        try:
            body = parse_json(exchange.request.body)
        except BrokenJsonError as broken:
            flaw = {"type": "json_invalid", "loc": ["body", broken.position], "msg": "JSON decode error", "input": {}}
            await self.reply_json(exchange, {"detail": [flaw]}, 422)
            return None
        if not isinstance(body, dict) or required not in body:
            flaw = {"type": "missing", "loc": ["body", required], "msg": "Field required", "input": body}
            await self.reply_json(exchange, {"detail": [flaw]}, 422)
            return None
        if not isinstance(body[required], kind):
            word = "string" if kind is str else "list"
            flaw = {"type": f"{word}_type", "loc": ["body", required], "msg": f"Input should be a valid {word}"}
            await self.reply_json(exchange, {"detail": [{**flaw, "input": body[required]}]}, 422)
            return None
        return body

    def _choose_model(self, body: dict[str, Any]) -> SimModel | None:
        """Choose the model by name; without one the first, or for category `fast` the smallest."""
        wanted = body.get("model")
        if wanted:
            return next((model for model in self.models if model.name == wanted), None)
        if body.get("category") == "fast":
            return min(self.models, key=lambda model: model.parameters)
        return self.models[0]

    async def _send_answer(
        self, exchange: Exchange, body: dict[str, Any], message: str, tokens: int, *, chat: bool
    ) -> None:
        model = self._choose_model(body)
        if model is None:
            await self.reply_error(exchange, 404, f"Model {body['model']} not found")
            return
        wanted = body.get("max_tokens", _DEFAULT_TOKENS)
        limit = wanted if isinstance(wanted, int) and wanted > 0 else _DEFAULT_TOKENS
        answer = self.compose_answer(GenerationRequest(model.name, message, tokens, max_tokens=limit))
        try:
            async with self.engine.open_session(model, crash=exchange.fault) as session:
                await session.read_prompt(tokens)
                streamed = body.get("stream") is True
                for piece in answer.tokens:
                    await session.generate_token()
                    if streamed:
                        await self._send_line(exchange, _build_object(model, piece, chat=chat, done=False))
        except QueueFullError:
            # Requests of high priority get 503, others 429.
            hurried = exchange.request.headers.get("x-request-priority") == "high"
            exchange.headers.append(("retry-after", "5"))
            await self.reply_error(exchange, 503 if hurried else 429, _BUSY)
        except EngineCrashError:
            await self._report_crash(exchange)
        else:
            if streamed:
                await self._send_line(exchange, _build_object(model, "", chat=chat, done=True))
                await exchange.finish()
            else:
                await self.reply_json(exchange, _build_object(model, answer.text, chat=chat, done=True))

    async def _send_line(self, exchange: Exchange, value: dict[str, Any]) -> None:
        if not exchange.started:
            await exchange.start(200, "application/json")
        await exchange.send(self.encode_json(value) + b"\n")

    async def _report_crash(self, exchange: Exchange) -> None:
        if exchange.started:
            await exchange.send(self.encode_json({"error": "generation failed", "done": True}) + b"\n")
            await exchange.finish()
        else:
            await self.reply_error(exchange, 500, "generation failed")


def _build_object(model: SimModel, text: str, *, chat: bool, done: bool) -> dict[str, Any]:
    content = {"message": {"role": "assistant", "content": text}} if chat else {"response": text}
    return {"model": model.name, **content, "done": done}


KIND = Mlx
