"""Prompts: rendered by the chat template, counted, and fitted into the context window as Ollama does it."""

from dataclasses import dataclass, replace
from typing import Any

import msgspec

from penstock.sim.generated_text import tokens_of
from penstock.sim.kinds.ollama.go.text import encode_json
from penstock.sim.kinds.ollama.handler import OllamaError
from penstock.sim.openai.request import IMAGE_TOKENS, Prompt, read_prompt
from penstock.sim.options import SimModel

DEFAULT_CONTEXT = 32768  # Ollama's default with 23 to 47 GiB of video memory
_RUNNER_MINIMUM = 256  # llama-server's smallest context
_NUM_KEEP = 4
_FRAME_TOKENS = 7  # the chat template's around the conversation, in addition to those of each message
TOO_LONG = (
    "the prompt is longer than the context length currently available to the model; shorten the prompt, "
    "adjust the context length in settings, or use a model with a longer context length"
)


@dataclass(frozen=True, slots=True)
class ContextWindow:
    """A context window in tokens as Ollama counts it, and the allowed ways to fit a prompt into it."""

    tokens: int
    truncate: bool
    shift: bool
    num_keep: int = _NUM_KEEP

    @classmethod
    def for_model(
        cls,
        model: SimModel,
        num_ctx: int | None,
        *,
        truncate: bool = True,
        shift: bool = True,
        num_keep: int | None = None,
    ) -> "ContextWindow":
        least = 2048 if model.has_capability("vision") else 4
        wanted = DEFAULT_CONTEXT if num_ctx is None else max(num_ctx, least)
        keep = _NUM_KEEP if num_keep is None else num_keep
        return cls(min(wanted, model.context_length), truncate, shift, keep)

    @property
    def runner_tokens(self) -> int:
        """The window of llama-server, which has a minimum of its own."""
        return max(self.tokens, _RUNNER_MINIMUM)

    @property
    def cut_tokens(self) -> int:
        """Length of a prompt that was cut: its beginning is kept, and about half of the rest."""
        keep = min(self.tokens - 1 if self.num_keep < 0 else self.num_keep, self.tokens - 1)
        return self.tokens - max((self.tokens - keep) // 2, 1)

    def overflow_error(self, tokens: int) -> OllamaError:
        """Build llama-server's own error, as text inside Ollama's."""
        message = (
            f"request ({tokens} tokens) exceeds the available context size ({self.runner_tokens} tokens), "
            "try increasing it"
        )
        more = {"n_prompt_tokens": tokens, "n_ctx": self.runner_tokens}
        return build_runner_error(400, message, "exceed_context_size_error", **more)


def build_runner_error(status: int, message: str, kind: str, **more: Any) -> OllamaError:
    """Build an error of llama-server, whose JSON Ollama passes on as text."""
    inner = {"code": status, "message": message, "type": kind, **more}
    return OllamaError(status, msgspec.json.encode({"error": inner}).decode(), "streamed")


def drop_old_messages(messages: list[dict[str, Any]], window: ContextWindow) -> list[dict[str, Any]]:
    """Drop the oldest messages until the conversation fits; system messages and the last one stay."""
    if not window.truncate:
        return messages
    for start in range(len(messages)):
        system = [message for message in messages[:start] if message.get("role") == "system"]
        kept = [*system, *messages[start:]]
        if measure_messages(kept).tokens <= window.tokens:
            return kept
    return kept if messages else messages


def fit_completion(prompt: Prompt, window: ContextWindow) -> Prompt:
    """Cut a rendered prompt that is too long, in its middle. Raises OllamaError if that is forbidden."""
    if window.truncate and not prompt.images and prompt.tokens > window.tokens - 1:
        if not window.shift:
            raise OllamaError(400, TOO_LONG, "streamed")
        return replace(prompt, tokens=window.cut_tokens)
    return prompt


def measure_messages(messages: list[dict[str, Any]]) -> Prompt:
    prompt = read_prompt(messages)
    images = sum(len(message.get("images", ())) for message in messages)
    tokens = prompt.tokens + _FRAME_TOKENS + images * IMAGE_TOKENS
    return replace(prompt, tokens=tokens, images=prompt.images + images)


def measure_raw_text(text: str, images: int) -> Prompt:
    return Prompt(max(1, len(tokens_of(text)) + images * IMAGE_TOKENS), text, None, images)


def render_messages(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> str:
    """Render a conversation in ChatML, the template of every simulated model."""
    offered = "\n".join(encode_json(tool).decode() for tool in tools)
    turns = [("system", f"# Tools\n{offered}")] if tools else []
    turns += [(str(message.get("role", "")), str(message.get("content", ""))) for message in messages]
    return "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in turns) + "<|im_start|>assistant\n"
