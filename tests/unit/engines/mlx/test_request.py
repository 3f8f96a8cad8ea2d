"""Requests to the MLX API server."""

import json

import pytest

from penstock.domain.content import (
    AgentTask,
    Chat,
    Completion,
    Content,
    Embedding,
    Format,
    Image,
    Message,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
)
from penstock.domain.errors import Unsupported
from penstock.domain.fleet import Model
from penstock.domain.request import Call, Operation
from penstock.engines.base import EngineRequest
from penstock.engines.mlx.engine import ENGINE

MODEL = Model("qwen2.5-coder")
ASKED = Call("openai.chat", Operation.CHAT, "x", True, b"{}")
HELLO = Message("user", (Text("hello"),))


def translate(content: Content, call: Call = ASKED) -> EngineRequest:
    return ENGINE.translate_request(call, content, MODEL)


def test_a_chat_has_a_prompt_as_its_fallback_for_older_versions():
    outgoing = translate(Chat((HELLO,), sampling=Sampling(max_tokens=9, temperature=0.5, top_p=1.0, n=1)))
    common = {"stream": True, "model": "qwen2.5-coder", "max_tokens": 9, "temperature": 0.5}
    assert (outgoing.path, outgoing.stream) == ("/api/chat", True)
    assert json.loads(outgoing.body) == {"messages": [{"role": "user", "content": "hello"}]} | common
    assert outgoing.fallback is not None
    assert (outgoing.fallback.path, outgoing.fallback.stream) == ("/api/generate", True)
    assert json.loads(outgoing.fallback.body) == {"prompt": "hello"} | common


def test_a_conversation_becomes_a_prompt_with_its_speakers():
    history = (
        Message("developer", (Text("Be brief."),)),
        HELLO,
        Message("assistant", (Text("Hi!"),), (ToolCall("a", "look", '{"x":1}'),)),
        Message("tool", (Text("42"),), tool_call_id="a"),
    )
    outgoing = translate(Chat(history))
    assert outgoing.fallback is not None
    assert json.loads(outgoing.fallback.body)["prompt"] == (
        'Be brief.\n\nUser: hello\n\nAssistant: Hi!\n[look({"x":1})]\n\nTool: 42\n\nAssistant:'
    )
    assert [message["role"] for message in json.loads(outgoing.body)["messages"]] == [
        "system", "user", "assistant", "user"
    ]  # fmt: skip


def test_a_goal_becomes_a_chat_with_its_history():
    task = AgentTask("win", (HELLO,), expert="a chess master", sampling=Sampling(max_tokens=5))
    fields = json.loads(translate(task).body)
    assert [message["content"] for message in fields["messages"]] == ["Answer as a chess master.", "hello", "win"]
    assert fields["max_tokens"] == 5
    with pytest.raises(Unsupported, match="plan"):
        translate(AgentTask("win", plan=True))


def test_raw_text_goes_to_generate():
    outgoing = translate(Completion(("a",), sampling=Sampling(max_tokens=3)))
    assert (outgoing.path, outgoing.fallback) == ("/api/generate", None)
    assert json.loads(outgoing.body) == {"prompt": "a", "stream": True, "model": "qwen2.5-coder", "max_tokens": 3}


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (Chat((HELLO,), (Tool("f"),)), "tools"),
        (Chat((HELLO,), format=Format()), "response_format"),
        (Chat((HELLO,), sampling=Sampling(n=2)), "n"),
        (Chat((HELLO,), sampling=Sampling(stop=("x",))), "stop"),
        (Chat((HELLO,), sampling=Sampling(logprobs=True)), "logprobs"),
        (Chat((Message("user", (Image("AAAA"),)),)), "messages"),
        (Completion(("a", "b")), "prompt"),
        (Completion(((1,),)), "prompt"),
        (Completion(("a",), suffix="b"), "suffix"),
        (Embedding(("a",)), None),
    ],
)
def test_unsupported_fields_are_refused_by_name(content: Content, field: str | None):
    with pytest.raises(Unsupported, match="MLX API server") as raised:
        translate(content)
    assert raised.value.param == field


@pytest.mark.parametrize(
    ("chat", "ignored"),
    [
        (Chat((HELLO,), thinking=Thinking()), ("thinking",)),
        (Chat((HELLO,), sampling=Sampling(top_p=0.5, seed=1)), ("top_p", "seed")),
        (Chat((HELLO,), extra=(("logit_bias", b'{"1":2}'),)), ("logit_bias",)),
        (
            Chat((HELLO,), options=(("num_ctx", b"8"), ("use_mlock", b"true"), ("f16_kv", b"true")), keep_alive=b"-1"),
            ("num_ctx", "use_mlock", "f16_kv", "keep_alive"),
        ),
    ],
)
def test_hints_are_left_out_and_named(chat: Chat, ignored: tuple[str, ...]):
    outgoing = translate(chat)
    assert outgoing.ignored == ignored
    assert set(json.loads(outgoing.body)) == {"messages", "stream", "model"}


def test_neutral_settings_are_not_named():
    quiet = Chat(
        (HELLO,), (Tool("f"),), ToolChoice("none"), thinking=Thinking(False),
        sampling=Sampling(top_p=1.0, top_k=0, presence_penalty=0.0, repeat_penalty=1.0, top_logprobs=0),
        extra=(("store", b"false"), ("logit_bias", b"{}")),
    )  # fmt: skip
    assert set(json.loads(translate(quiet).body)) == {"messages", "stream", "model"}
    assert translate(quiet).ignored == ()
