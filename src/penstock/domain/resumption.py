"""Which answers may be put together from parts: one server begins, another goes on from the text so far."""

from dataclasses import replace

from penstock.domain.content import Chat, Completion, Content, Sampling

# Fields of callers' dialects that say nothing of the answer's form, so that the rest may be asked for separately.
_HARMLESS = frozenset(
    {
        *("metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"),
        *("user", "stream_options", "cache_control", "cache_prompt", "inference_geo", "speed", "verbosity", "priority"),
        *("keep_alive", "truncate", "shift", "raw", "length_penalty", "skip_special_tokens", "logit_bias"),
        *("stop_token_ids", "bad_words", "prediction"),
    }
)


def is_resumable(content: Content) -> bool:
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


def reduce_token_limit(sampling: Sampling, tokens: int) -> Sampling | None:
    """The sampling of the rest when so many tokens have been said; None when there is no room for more."""
    if sampling.max_tokens is None or sampling.max_tokens < 0:
        return sampling
    room = sampling.max_tokens - tokens
    return replace(sampling, max_tokens=room) if room > 0 else None
