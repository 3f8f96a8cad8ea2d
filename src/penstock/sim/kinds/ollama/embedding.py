"""`/api/embed` and the older `/api/embeddings`."""

import math
from typing import Any

from penstock.sim.exchange import Exchange
from penstock.sim.generated_text import tokens_of, unit_vector
from penstock.sim.kinds.ollama.answers import build_metrics
from penstock.sim.kinds.ollama.fields import EMBED, EMBEDDINGS
from penstock.sim.kinds.ollama.go.decoder import decode_fields
from penstock.sim.kinds.ollama.handler import Core, Handlers, OllamaError, unreachable_cloud
from penstock.sim.kinds.ollama.library import Installed
from penstock.sim.kinds.ollama.request_options import check_options, integer_option, load_parameters
from penstock.sim.speed_model import Session

UNSUPPORTED = "This server does not support embeddings. Start it with `--embeddings`"
_TOO_LONG = "the input length exceeds the context length"
_BATCH_TOKENS = 2048  # llama-server embeds a text in one batch of at most so many tokens
_MARK_TOKENS = 2  # beginning and end of a text


class Embedding(Handlers):
    """Routes that turn texts into vectors."""

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self.routes = {
            "/api/embed": {"POST": self.guard_route(self._handle_embed, generates=True)},
            "/api/embeddings": {"POST": self.guard_route(self._handle_embeddings, generates=True)},
        }

    async def _handle_embed(self, exchange: Exchange) -> None:
        body = decode_fields(exchange.request.body, EMBED)
        installed, texts = self.find_embedder(body, exchange.request.path)
        check_options({**installed.parameters, **(body.get("options") or {})})
        if not texts:
            await self._load_model(installed, body)
            await self.reply_json(exchange, {"model": body["model"], "embeddings": []})
            return
        vectors, session, count = await self.embed_texts(exchange, installed, texts, body)
        numbers = build_metrics(session, count, 0)
        kept = {
            name: numbers[name] for name in ("total_duration", "load_duration", "prompt_eval_count") if name in numbers
        }
        await self.reply_json(exchange, {"model": body["model"], "embeddings": vectors, **kept})

    async def _handle_embeddings(self, exchange: Exchange) -> None:
        body = decode_fields(exchange.request.body, EMBEDDINGS)
        asked = body.get("model", "")
        reference = self.read_reference(asked, OllamaError(400, "model is required"))
        if reference.source == "cloud":
            raise unreachable_cloud(exchange.request.path)
        installed = self.core.library.find_exact(reference.name)
        if installed is None:
            raise _missing_model(asked)
        check_options({**installed.parameters, **(body.get("options") or {})})
        if not body.get("prompt"):
            await self._load_model(installed, body)
            await self.reply_json(exchange, {"embedding": []})
            return
        try:
            vectors, _, _ = await self.embed_texts(exchange, installed, [body["prompt"]], {**body, "truncate": False})
        except OllamaError as error:
            raise OllamaError(500, error.message) from None
        await self.reply_json(exchange, {"embedding": vectors[0]})

    def find_embedder(self, body: dict[str, Any], path: str) -> tuple[Installed, list[str]]:
        """Return the model and the texts of a request, checked in Ollama's order. Raises OllamaError."""
        asked = body.setdefault("model", "")
        reference = self.read_reference(asked, OllamaError(404, f"model '{asked}' not found"))
        if reference.source == "cloud":
            raise unreachable_cloud(path)
        texts = read_texts(body.get("input"))
        installed = self.core.library.find(reference.name)
        if installed is None:
            raise _missing_model(asked)
        return installed, texts

    async def embed_texts(
        self, exchange: Exchange, installed: Installed, texts: list[str], body: dict[str, Any]
    ) -> tuple[list[list[float]], Session, int]:
        """Return (one unit vector a text, the session that made them, prompt tokens). Raises OllamaError."""
        options = {**installed.parameters, **(body.get("options") or {})}
        setup, keep_alive = load_parameters(options, None), body.get("keep_alive")
        engine, crash = self.core.engine, exchange.fault
        truncate = body.get("truncate", True)
        self.remember_model(installed)
        async with engine.open_session(installed.model, setup=setup, keep_alive=keep_alive, crash=crash) as session:
            if not installed.model.has_capability("embedding"):
                raise OllamaError(501, UNSUPPORTED)
            limit = installed.model.context_length
            num_ctx = integer_option(options, "num_ctx")
            limit = min(num_ctx, limit) if num_ctx is not None and num_ctx > 0 else limit
            count = sum(_count_tokens(text, limit, truncate=truncate) for text in texts)
            await session.read_prompt(count)
        dimensions = body.get("dimensions", 0)
        size = installed.embedding_length
        return [_truncate_vector(unit_vector(text, size), dimensions) for text in texts], session, count

    async def _load_model(self, installed: Installed, body: dict[str, Any]) -> None:
        setup = load_parameters({**installed.parameters, **(body.get("options") or {})}, None)
        self.remember_model(installed)
        await self.core.engine.load_model(installed.model, setup=setup, keep_alive=body.get("keep_alive"))


def read_texts(given: Any) -> list[str]:
    """Read the texts of an `input`. Raises OllamaError if it is neither a string nor a list of strings."""
    if given is None or given == "":
        return []
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise OllamaError(400, "invalid input type")
    return texts


def _missing_model(asked: str) -> OllamaError:
    return OllamaError(404, f'model "{asked}" not found, try pulling it first')


def _count_tokens(text: str, limit: int, *, truncate: bool) -> int:
    """Return the tokens that are embedded of a text. Raises OllamaError for a text that is too long, or for none."""
    tokens, room = len(tokens_of(text)), limit - _MARK_TOKENS if text else limit
    if room <= 0:
        raise OllamaError(400, "input after truncation exceeds maximum context length")
    if tokens > room and not truncate:
        raise OllamaError(400, _TOO_LONG)
    tokens, batch = min(tokens, room), min(_BATCH_TOKENS, limit)
    if tokens == 0:
        message = "input exceeds maximum context length and cannot be truncated further"
        raise OllamaError(400, message if truncate else "Input content cannot be empty")
    if tokens > batch and not truncate:
        raise OllamaError(400, _TOO_LONG)
    return min(tokens, batch - _MARK_TOKENS) if tokens > batch else tokens


def _truncate_vector(values: list[float], dimensions: int) -> list[float]:
    if not 0 < dimensions < len(values):
        return values
    kept = values[:dimensions]
    length = math.sqrt(sum(value * value for value in kept)) or 1.0
    return [value / length for value in kept]
