"""Prompts fitted into the context window as Ollama does it: old messages dropped, a long text cut, or an error."""

from dataclasses import dataclass, replace
from typing import Any

from penstock.sim.generated_text import tokens_of
from penstock.sim.kinds.ollama.handler import OllamaError, encode_json
from penstock.sim.openai.request import IMAGE_TOKENS, Prompt, read_prompt
from penstock.sim.options import SimModel

DEFAULT_CONTEXT = 32768  # Ollama's default with 23 to 47 GiB of video memory


@dataclass(frozen=True, slots=True)
class ContextWindow:
    """A context window in tokens, and the allowed ways to fit a prompt into it."""

    tokens: int
    truncate: bool
    shift: bool

    @classmethod
    def for_model(
        cls, model: SimModel, num_ctx: int | None, *, truncate: bool = True, shift: bool = True
    ) -> "ContextWindow":
        least = 2048 if model.has_capability("vision") else 4
        wanted = DEFAULT_CONTEXT if num_ctx is None else max(num_ctx, least)
        return cls(min(wanted, model.context_length), truncate, shift)

    def overflow_error(self, tokens: int) -> OllamaError:
        """Build the engine's own error, as text inside Ollama's."""
        message = (
            f"request ({tokens} tokens) exceeds the available context size ({self.tokens} tokens), try increasing it"
        )
        inner = {
            "code": 400,
            "message": message,
            "type": "exceed_context_size_error",
            "n_prompt_tokens": tokens,
            "n_ctx": self.tokens,
        }
        return OllamaError(400, encode_json({"error": inner}).decode(), bare=True)


def fit_messages(messages: list[dict[str, Any]], room: ContextWindow) -> Prompt:
    """Drop the oldest messages until the conversation fits; system messages and the last one stay."""
    kept = list(messages)
    prompt = _measure_messages(kept)
    if prompt.tokens >= room.tokens and not room.truncate:
        raise room.overflow_error(prompt.tokens)
    while prompt.tokens >= room.tokens:
        droppable = [at for at, message in enumerate(kept[:-1]) if str(message.get("role", "")).lower() != "system"]
        if not droppable:
            raise room.overflow_error(prompt.tokens)
        del kept[droppable[0]]
        prompt = _measure_messages(kept)
    return prompt


def fit_text(text: str, extra: int, images: int, room: ContextWindow) -> Prompt:
    """Cut a prompt to the context window; `extra` tokens are added to it."""
    tokens = max(1, len(tokens_of(text)) + extra + images * IMAGE_TOKENS)
    if tokens >= room.tokens:
        if not room.truncate or not room.shift:
            raise room.overflow_error(tokens)
        tokens = room.tokens - 1
    return Prompt(tokens, text, None, images)


def _measure_messages(messages: list[dict[str, Any]]) -> Prompt:
    lowered = [{**message, "role": str(message.get("role", "")).lower()} for message in messages]
    prompt = read_prompt(lowered)
    images = sum(len(message.get("images", ())) for message in messages)
    return replace(prompt, tokens=prompt.tokens + images * IMAGE_TOKENS, images=prompt.images + images)
