"""`/api/embed` and the older `/api/embeddings`."""

import math
from typing import Any

from penstock.sim.exchange import Exchange
from penstock.sim.generated_text import tokens_of, unit_vector
from penstock.sim.kinds.ollama.fields import EMBED, EMBEDDINGS, check_options, integer_option, load_parameters
from penstock.sim.kinds.ollama.generation import build_metrics
from penstock.sim.kinds.ollama.go_json import decode_fields
from penstock.sim.kinds.ollama.handler import Core, Handlers, OllamaError
from penstock.sim.kinds.ollama.library import Installed
from penstock.sim.kinds.ollama.prompt import ContextWindow
from penstock.sim.speed_model import Session

_UNSUPPORTED = "This server does not support embeddings. Start it with `--embeddings`"


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
        texts = read_texts(body.get("input"))
        installed = self.find_embedder(body.get("model", ""), OllamaError(404, "model '' not found"))
        check_options(body.get("options") or {})
        if not texts:
            await self._load_model(installed, body)
            await self.reply_json(exchange, {"model": body["model"], "embeddings": []})
            return
        if not installed.model.has_capability("embedding"):
            raise OllamaError(501, _UNSUPPORTED)
        vectors, session, count = await self.embed_texts(exchange, installed, texts, body)
        numbers = build_metrics(session, count, 0)
        kept = {
            name: numbers[name] for name in ("total_duration", "load_duration", "prompt_eval_count") if name in numbers
        }
        await self.reply_json(exchange, {"model": body["model"], "embeddings": vectors, **kept})

    async def _handle_embeddings(self, exchange: Exchange) -> None:
        body = decode_fields(exchange.request.body, EMBEDDINGS)
        installed = self.find_embedder(body.get("model", ""), OllamaError(400, "model is required"))
        check_options(body.get("options") or {})
        if not body.get("prompt"):
            await self._load_model(installed, body)
            await self.reply_json(exchange, {"embedding": []})
            return
        if not installed.model.has_capability("embedding"):
            raise OllamaError(500, _UNSUPPORTED)
        vectors, _, _ = await self.embed_texts(exchange, installed, [body["prompt"]], body)
        await self.reply_json(exchange, {"embedding": vectors[0]})

    def find_embedder(self, name: str, unnamed: OllamaError) -> Installed:
        """Find the installed model of that name. Raises OllamaError."""
        if not name.strip():
            raise unnamed
        return self.find_installed(name, OllamaError(404, f'model "{name}" not found, try pulling it first'))

    async def embed_texts(
        self, exchange: Exchange, installed: Installed, texts: list[str], body: dict[str, Any]
    ) -> tuple[list[list[float]], Session, int]:
        """Return (one unit vector a text, the session that made them, prompt tokens). Raises OllamaError."""
        options = body.get("options") or {}
        room = ContextWindow.for_model(installed.model, integer_option(options, "num_ctx"))
        counts = [max(1, len(tokens_of(text))) for text in texts]
        if body.get("truncate", True) is False and max(counts) > room.tokens:
            raise OllamaError(400, "the input length exceeds the context length")
        count = sum(min(tokens, room.tokens) for tokens in counts)
        setup = load_parameters(options, None)
        keep_alive = body.get("keep_alive")
        engine, crash = self.core.engine, exchange.fault
        async with engine.open_session(installed.model, setup=setup, keep_alive=keep_alive, crash=crash) as session:
            await session.read_prompt(count)
        dimensions = body.get("dimensions", 0)
        return (
            [_truncate_vector(unit_vector(text, installed.embedding_length), dimensions) for text in texts],
            session,
            count,
        )

    async def _load_model(self, installed: Installed, body: dict[str, Any]) -> None:
        setup = load_parameters(body.get("options") or {}, None)
        await self.core.engine.load_model(installed.model, setup=setup, keep_alive=body.get("keep_alive"))


def read_texts(given: Any) -> list[str]:
    """Read the texts of an `input`. Raises OllamaError if it is neither a string nor a list of strings."""
    if given is None or given == "":
        return []
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise OllamaError(400, "invalid input type")
    return texts


def _truncate_vector(values: list[float], dimensions: int) -> list[float]:
    if not 0 < dimensions < len(values):
        return values
    kept = values[:dimensions]
    length = math.sqrt(sum(value * value for value in kept)) or 1.0
    return [value / length for value in kept]
