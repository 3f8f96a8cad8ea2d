"""Resumption of streams: another server continues the text of a server that failed."""

from dataclasses import replace

from penstock.domain.content import Chat, Completion, Content, Sampling

# Fields of clients' dialects that do not affect the format of the text, so the rest can be requested separately.
_RESUMABLE_FIELDS = frozenset(
    {
        *("metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"),
        *("user", "stream_options", "cache_control", "cache_prompt", "inference_geo", "speed", "verbosity", "priority"),
        *("keep_alive", "truncate", "shift", "raw", "length_penalty", "skip_special_tokens", "logit_bias"),
        *("stop_token_ids", "bad_words", "prediction"),
    }
)


def is_resumable(content: Content) -> bool:
    """Return whether the response is one plain text that another server can continue."""
    if not isinstance(content, Chat | Completion) or content.format is not None:
        return False
    sampling = content.sampling
    if (sampling.n or 1) > 1 or sampling.logprobs or sampling.top_logprobs is not None:
        return False
    if not all(name in _RESUMABLE_FIELDS for name, _ in content.extra):
        return False
    if isinstance(content, Completion):
        has_one_prompt = len(content.prompts) == 1 and isinstance(content.prompts[0], str)
        return has_one_prompt and not content.suffix and not content.echo
    return not content.tools and bool(content.messages) and content.messages[-1].role != "assistant"


def reduce_token_limit(sampling: Sampling, tokens: int) -> Sampling | None:
    """Return the sampling parameters after `tokens` generated tokens, None if the token limit is reached."""
    if sampling.max_tokens is None or sampling.max_tokens < 0:
        return sampling
    remaining = sampling.max_tokens - tokens
    return replace(sampling, max_tokens=remaining) if remaining > 0 else None
