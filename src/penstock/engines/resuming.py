"""Going on with an answer that broke off: which requests allow it, and the request that asks for the rest.

How engines go on with an assistant's turn that has been begun:

- vLLM: `continue_final_message: true, add_generation_prompt: false` leaves the last turn open (its documentation of the
  chat API).
- llama.cpp: a trailing assistant turn is gone on with by itself since b5224; servers started with
  `--no-prefill-assistant` do not. It refuses that together with thinking, so thinking is turned off for the rest.
- Ollama: `/api/chat` goes on with a trailing assistant turn wherever the model's template leaves it open, which nearly
  all do (its maintainers, on the question of a "continue" option).
- Raw completions go on wherever the prompt ends, on all of them.
- Other servers of OpenAI's API, the MLX API server and Victoria have no word for it.
"""

from dataclasses import replace

from penstock.domain.content import Chat, Completion, Content, Message, Sampling, Text

# Fields of callers' dialects that say nothing of the answer's form, so that the rest may be asked for separately.
_HARMLESS = frozenset(
    {
        *("metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"),
        *("user", "stream_options", "cache_control", "cache_prompt", "inference_geo", "speed", "verbosity", "priority"),
        *("keep_alive", "truncate", "shift", "raw", "length_penalty", "skip_special_tokens", "logit_bias"),
        *("stop_token_ids", "bad_words", "prediction"),
    }
)


def resumable(content: Content) -> bool:
    """Whether the answer is one plain text that may be put together from parts."""
    if not isinstance(content, Chat | Completion) or content.format is not None:
        return False
    sampling = content.sampling
    if (sampling.n or 1) > 1 or sampling.logprobs or sampling.top_logprobs is not None:
        return False
    if not all(name in _HARMLESS for name, _ in content.extra):
        return False
    if isinstance(content, Completion):
        whole = content.suffix or content.echo or len(content.prompts) != 1
        return not whole and isinstance(content.prompts[0], str)
    return not content.tools and bool(content.messages) and content.messages[-1].role != "assistant"


def left(sampling: Sampling, tokens: int) -> Sampling | None:
    """The sampling of the rest when so many tokens have been said; None when there is no room for more."""
    if sampling.max_tokens is None or sampling.max_tokens < 0:
        return sampling
    room = sampling.max_tokens - tokens
    return replace(sampling, max_tokens=room) if room > 0 else None


def begun(chat: Chat, said: str) -> Chat:
    """The chat with what was said as a last turn of the assistant's."""
    return replace(chat, messages=(*chat.messages, Message("assistant", (Text(said),))))


def prolonged(completion: Completion, said: str) -> Completion:
    """The completion with what was said as part of its prompt."""
    return replace(completion, prompts=(f"{completion.prompts[0]}{said}",))
