"""Requests to Victoria."""

import json
from typing import Any

import pytest

from penstock.domain.content import (
    AgentTask,
    Chat,
    Completion,
    Content,
    Format,
    Image,
    Message,
    Sampling,
    Text,
    Tool,
    ToolCall,
)
from penstock.domain.errors import InvalidRequest, Unsupported
from penstock.domain.fleet import Model
from penstock.domain.request import Call, Operation
from penstock.engines.base import EngineRequest
from penstock.engines.victoria.engine import ENGINE

VICTORIA = Model("victoria")


def turn(role: str, text: str) -> Message:
    return Message(role, (Text(text),))


def translate(content: Content, stream: bool = False) -> EngineRequest:
    call = Call("openai.chat", Operation.CHAT, "victoria", stream, b"")
    return ENGINE.translate_request(call, content, VICTORIA)


def translate_fields(content: Content, stream: bool = False) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(translate(content, stream).body)
    return body


def test_a_task_is_a_goal_with_pairs_of_history() -> None:
    history = (turn("user", "a"), turn("assistant", "b"), turn("user", "c"))
    task = AgentTask("Построй план", history, session="chat-7")
    assert translate_fields(task) == {
        "goal": "Построй план",
        "session_id": "chat-7",
        "chat_history": [{"user": "a", "assistant": "b"}, {"user": "c", "assistant": ""}],
    }
    assert "Построй".encode() in translate(task).body


def test_a_bare_task_sends_only_a_goal() -> None:
    assert translate_fields(AgentTask("go")) == {"goal": "go"}


def test_a_goal_is_addressed_to_the_expert() -> None:
    assert translate_fields(AgentTask("check it", expert="Виктор"))["goal"] == "Виктор: check it"


def test_a_stream_falls_back_to_run() -> None:
    outgoing = translate(AgentTask("go"), stream=True)
    assert (outgoing.path, outgoing.stream) == ("/stream", True)
    later = outgoing.fallback
    assert later is not None
    assert (later.path, later.stream, later.body) == ("/run?async_mode=true", False, outgoing.body)
    assert translate(AgentTask("go")) == later


def test_a_plan_is_requested_at_plan() -> None:
    outgoing = translate(AgentTask("go", plan=True, session="s"), stream=True)
    assert (outgoing.path, json.loads(outgoing.body), outgoing.stream) == ("/plan", {"goal": "go"}, False)


def test_a_conversation_becomes_a_goal_and_history() -> None:
    chat = Chat(
        (
            turn("system", "Be brief"),
            turn("user", "a"),
            turn("user", "a2"),
            turn("assistant", "b"),
            turn("user", "c"),
            turn("user", "d"),
        )
    )
    assert translate_fields(chat) == {
        "goal": "Be brief\n\nc\n\nd",
        "chat_history": [{"user": "a\n\na2", "assistant": "b"}],
    }


def test_a_conversation_may_start_with_an_assistant_message() -> None:
    assert translate_fields(Chat((turn("assistant", "hello"), turn("user", "a"))))["chat_history"] == [
        {"user": "", "assistant": "hello"}
    ]


def test_sampling_that_an_agent_ignores_is_accepted() -> None:
    chat = Chat((turn("user", "a"),), sampling=Sampling(max_tokens=9, temperature=0.1, n=1))
    assert translate_fields(chat) == {"goal": "a"}


@pytest.mark.parametrize(
    ("content", "param", "words"),
    [
        (Chat((turn("user", "a"),), tools=(Tool("f"),)), "tools", "tools"),
        (Chat((turn("user", "a"), Message("tool", (Text("1"),), tool_call_id="x"))), "tools", "tools"),
        (Chat((Message("assistant", (), (ToolCall("x", "f", "{}"),)), turn("user", "a"))), "tools", "tools"),
        (Chat((Message("user", (Image(url="http://a/b.png"),)),)), "messages", "text"),
        (Chat((turn("user", "a"),), format=Format(b"{}")), "response_format", "schema"),
        (Chat((turn("user", "a"),), sampling=Sampling(n=2)), "n", "several"),
        (Chat((turn("user", "a"),), sampling=Sampling(logprobs=True)), "logprobs", "probabilities"),
        (Chat((turn("user", "a"),), sampling=Sampling(stop=("b",))), "stop", "stop"),
        (Chat((turn("user", "a"), turn("assistant", "b"))), "messages", "last message"),
        (Completion(("a",)), None, "another model"),
    ],
)
def test_unsupported_fields_are_refused_by_name(content: Content, param: str | None, words: str) -> None:
    with pytest.raises(Unsupported) as caught:
        translate(content)
    assert caught.value.param == param
    assert "Victoria" in caught.value.message
    assert words in caught.value.message


def test_a_conversation_without_a_question_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="no user message"):
        translate(Chat((turn("system", "a"),)))
