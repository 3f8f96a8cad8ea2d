"""Content that can be continued, and the requests for the rest."""

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import engines
from penstock.domain.content import (
    AgentTask,
    Chat,
    Completion,
    Content,
    Embedding,
    Format,
    Message,
    Sampling,
    Text,
    Thinking,
    Tool,
)
from penstock.domain.fleet import Model
from penstock.domain.request import Call, Operation
from penstock.domain.resumption import is_resumable, reduce_token_limit

ENGINES = engines.load()
CALL = Call("anthropic.messages", Operation.CHAT, "m", True, b"")
RAW = Call("openai.completions", Operation.COMPLETION, "m", True, b"")
CHAT = Chat((Message("system", (Text("Be brief."),)), Message("user", (Text("hi"),))))
TEXT = Completion(("Once upon",))


def continuation_fields(
    kind: str, content: Content, sent_text: str, model: Model | None = None
) -> dict[str, object] | None:
    outgoing = ENGINES[kind].build_continuation(
        CALL if isinstance(content, Chat) else RAW, content, model or Model("m"), sent_text
    )
    if outgoing is None:
        return None
    assert outgoing.stream
    return msgspec.json.decode(outgoing.body)


@pytest.mark.parametrize("kind", ["vllm", "llamacpp", "ollama"])
def test_a_chat_continues_its_last_assistant_message(kind: str):
    body = continuation_fields(kind, CHAT, "Hello, ho")
    assert body is not None
    assert body["messages"][-1] == {"role": "assistant", "content": "Hello, ho"}
    assert [message["role"] for message in body["messages"]] == ["system", "user", "assistant"]


def test_vllm_leaves_the_last_message_open():
    body = continuation_fields("vllm", CHAT, "Hello")
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)


def test_llamacpp_continues_with_thinking_disabled():
    assert continuation_fields("llamacpp", replace(CHAT, thinking=Thinking()), "Hello")["chat_template_kwargs"] == {
        "enable_thinking": False
    }


def test_ollama_continues_with_thinking_disabled_if_the_model_can_think():
    assert (
        continuation_fields("ollama", CHAT, "Hello", Model("m", capabilities=frozenset({"thinking"})))["think"] is False
    )
    assert "think" not in continuation_fields("ollama", CHAT, "Hello")


@pytest.mark.parametrize("kind", ["vllm", "llamacpp", "ollama", "openai"])
def test_a_completion_continues_after_the_prompt(kind: str):
    assert continuation_fields(kind, TEXT, " a time")["prompt"] == "Once upon a time"


@pytest.mark.parametrize("kind", ["openai", "mlx", "victoria"])
def test_other_engines_have_no_continuation(kind: str):
    assert continuation_fields(kind, CHAT, "Hello") is None


@pytest.mark.parametrize("content", [CHAT, TEXT, replace(CHAT, extra=(("user", b'"me"'),))])
def test_plain_text_can_be_continued(content: Content):
    assert is_resumable(content)


@pytest.mark.parametrize(
    "content",
    [
        replace(CHAT, tools=(Tool("f"),)),
        replace(CHAT, format=Format()),
        replace(CHAT, sampling=Sampling(n=2)),
        replace(CHAT, sampling=Sampling(logprobs=True)),
        replace(CHAT, messages=(*CHAT.messages, Message("assistant", (Text("I"),)))),
        replace(CHAT, messages=()),
        replace(CHAT, extra=(("guided_regex", b'"a+"'),)),
        replace(TEXT, echo=True),
        replace(TEXT, suffix="."),
        replace(TEXT, prompts=("a", "b")),
        replace(TEXT, prompts=((1, 2),)),
        replace(TEXT, format=Format()),
        Embedding(("a",)),
        AgentTask("go"),
    ],
)
def test_only_one_plain_text_can_be_continued(content: Content):
    assert not is_resumable(content)


@given(st.none() | st.integers(-1, 100), st.integers(0, 200))
def test_sent_text_counts_against_the_token_limit(limit: int | None, tokens: int):
    rest = reduce_token_limit(Sampling(max_tokens=limit), tokens)
    if limit is None or limit < 0:
        assert rest is not None
        assert rest.max_tokens == limit
    elif tokens >= limit:
        assert rest is None
    else:
        assert rest is not None
        assert rest.max_tokens == limit - tokens
