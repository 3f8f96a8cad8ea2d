"""Responses that another server can continue."""

import pytest

from penstock.domain.content import Chat, Completion, Content, Embedding, Format, Message, Sampling, Text, Tool
from penstock.domain.resumption import is_resumable, reduce_token_limit

QUESTION = Message("user", (Text("hi"),))


@pytest.mark.parametrize(
    "content",
    [
        Chat((QUESTION,)),
        Chat((QUESTION,), extra=(("metadata", b"{}"), ("logit_bias", b"{}"))),
        Chat((QUESTION,), sampling=Sampling(n=1, seed=7)),
        Completion(("Once upon",)),
    ],
)
def test_plain_text_can_be_continued(content: Content) -> None:
    assert is_resumable(content)


@pytest.mark.parametrize(
    "content",
    [
        Chat(()),
        Chat((QUESTION, Message("assistant", (Text("Well"),)))),
        Chat((QUESTION,), tools=(Tool("f"),)),
        Chat((QUESTION,), format=Format()),
        Chat((QUESTION,), sampling=Sampling(n=2)),
        Chat((QUESTION,), sampling=Sampling(logprobs=True)),
        Chat((QUESTION,), extra=(("modalities", b'["audio"]'),)),
        Completion(("a", "b")),
        Completion(((1, 2),)),
        Completion(("a",), suffix="z"),
        Completion(("a",), echo=True),
        Embedding(("a",)),
    ],
)
def test_other_responses_cannot_be_continued(content: Content) -> None:
    assert not is_resumable(content)


def test_generated_tokens_reduce_the_limit() -> None:
    assert reduce_token_limit(Sampling(max_tokens=10, seed=1), 4) == Sampling(max_tokens=6, seed=1)


@pytest.mark.parametrize("limit", [None, -1])
def test_without_a_limit_the_sampling_is_unchanged(limit: int | None) -> None:
    assert reduce_token_limit(Sampling(max_tokens=limit), 4) == Sampling(max_tokens=limit)


@pytest.mark.parametrize("tokens", [10, 11])
def test_nothing_is_left_at_the_limit(tokens: int) -> None:
    assert reduce_token_limit(Sampling(max_tokens=10), tokens) is None
