"""Asking the MLX API server and reading what it answers."""

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
from penstock.domain.errors import ModelNotFound, Unsupported, UpstreamCut, UpstreamError, UpstreamGarbage
from penstock.domain.fleet import Inventory, Model, State
from penstock.domain.request import Call, Operation
from penstock.domain.response import Chunk
from penstock.engines.base import EngineRequest, FetchResponse
from penstock.engines.mlx.engine import ENGINE

MODEL = Model("qwen2.5-coder")
ASKED = Call("openai.chat", Operation.CHAT, "x", True, b"{}")
HELLO = Message("user", (Text("hello"),))


def ask(content: Content, call: Call = ASKED) -> EngineRequest:
    return ENGINE.translate_request(call, content, MODEL)


def test_a_chat_is_asked_as_one_and_of_older_versions_as_a_prompt():
    outgoing = ask(Chat((HELLO,), sampling=Sampling(max_tokens=9, temperature=0.5, top_p=1.0, n=1)))
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
    outgoing = ask(Chat(history))
    assert outgoing.fallback is not None
    assert json.loads(outgoing.fallback.body)["prompt"] == (
        'Be brief.\n\nUser: hello\n\nAssistant: Hi!\n[look({"x":1})]\n\nTool: 42\n\nAssistant:'
    )
    assert [message["role"] for message in json.loads(outgoing.body)["messages"]] == [
        "system", "user", "assistant", "user"
    ]  # fmt: skip


def test_a_goal_is_asked_as_a_chat_with_its_history():
    task = AgentTask("win", (HELLO,), expert="a chess master", sampling=Sampling(max_tokens=5))
    told = json.loads(ask(task).body)
    assert [message["content"] for message in told["messages"]] == ["Answer as a chess master.", "hello", "win"]
    assert told["max_tokens"] == 5
    with pytest.raises(Unsupported, match="plan"):
        ask(AgentTask("win", plan=True))


def test_raw_text_goes_to_generate():
    outgoing = ask(Completion(("a",), sampling=Sampling(max_tokens=3)))
    assert (outgoing.path, outgoing.fallback) == ("/api/generate", None)
    assert json.loads(outgoing.body) == {"prompt": "a", "stream": True, "model": "qwen2.5-coder", "max_tokens": 3}


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (Chat((HELLO,), (Tool("f"),)), "tools"),
        (Chat((HELLO,), format=Format()), "response_format"),
        (Chat((HELLO,), thinking=Thinking()), "thinking"),
        (Chat((HELLO,), sampling=Sampling(n=2)), "n"),
        (Chat((HELLO,), sampling=Sampling(top_p=0.5)), "top_p"),
        (Chat((HELLO,), sampling=Sampling(seed=1)), "seed"),
        (Chat((HELLO,), sampling=Sampling(stop=("x",))), "stop"),
        (Chat((HELLO,), sampling=Sampling(logprobs=True)), "logprobs"),
        (Chat((HELLO,), extra=(("logit_bias", b'{"1":2}'),)), "logit_bias"),
        (Chat((HELLO,), options=(("num_ctx", b"8"),)), "num_ctx"),
        (Chat((Message("user", (Image("AAAA"),)),)), "messages"),
        (Completion(("a", "b")), "prompt"),
        (Completion(((1,),)), "prompt"),
        (Completion(("a",), suffix="b"), "suffix"),
        (Embedding(("a",)), None),
    ],
)
def test_what_it_cannot_do_is_refused_by_name(content: Content, field: str | None):
    with pytest.raises(Unsupported, match="MLX API server") as raised:
        ask(content)
    assert raised.value.param == field


def test_what_asks_for_nothing_is_no_reason_to_refuse():
    quiet = Chat(
        (HELLO,), (Tool("f"),), ToolChoice("none"), thinking=Thinking(False), keep_alive=b"5",
        sampling=Sampling(top_p=1.0, top_k=0, presence_penalty=0.0, repeat_penalty=1.0, top_logprobs=0),
        extra=(("metadata", b'{"a":1}'), ("logit_bias", b"{}")),
    )  # fmt: skip
    assert set(json.loads(ask(quiet).body)) == {"messages", "stream", "model"}


def read(*pieces: bytes, streamed: bool = True) -> list[Chunk]:
    reader = ENGINE.create_reader(ASKED, Chat((HELLO,)), EngineRequest("/api/generate", stream=streamed))
    return [chunk for piece in pieces for chunk in reader.feed(piece)] + list(reader.close())


STREAM = (
    '{"model": "m", "response": "Hé", "done": false}\n{"model": "m", "response": "llo", "done": false}\n'
    '{"model": "m", "response": "", "done": true}\n'
).encode()


def test_lines_are_read_however_they_are_split():
    whole = read(STREAM)
    assert [chunk.text for chunk in whole] == ["Hé", "llo", ""]
    assert (whole[-1].finish, whole[-1].usage) == ("stop", None)
    for cut in range(len(STREAM)):
        assert read(STREAM[:cut], STREAM[cut:]) == whole


def test_a_whole_answer_and_a_chats_message_are_read():
    assert read(b'{"model":"m","response":"Hi","done":true}', streamed=False) == [Chunk("Hi", finish="stop")]
    message = b'{"model":"m","message":{"role":"assistant","content":"Hi"},"done":true}'
    assert read(message, streamed=False) == [Chunk("Hi", finish="stop")]


def test_a_stream_that_ends_early_or_tells_of_an_error_fails():
    with pytest.raises(UpstreamCut, match="MLX API server"):
        read(STREAM[:60])
    with pytest.raises(UpstreamError, match="out of memory"):
        read(b'{"error": "out of memory"}\n')
    with pytest.raises(UpstreamGarbage):
        read(b"<html>\n")


@pytest.mark.parametrize("status", [429, 503, 504])
def test_a_busy_server_may_be_tried_again(status: int):
    error = ENGINE.parse_error_response(status, b'{"detail":"queue full"}', 4.0)
    assert (error.status, error.retryable, error.retry_after) == (status, True, 4.0)
    assert "queue full" in error.message


def test_other_failures_are_told_in_its_words():
    assert isinstance(ENGINE.parse_error_response(404, b'{"detail":"Model x is not loaded"}', None), ModelNotFound)
    missing = ENGINE.parse_error_response(404, b'{"detail":"Not Found"}', None)
    assert not isinstance(missing, ModelNotFound)
    invalid = ENGINE.parse_error_response(422, b'{"detail":[{"loc":["body","prompt"],"msg":"field required"}]}', None)
    assert (invalid.message, invalid.status, invalid.retryable) == ("field required", 422, False)
    assert ENGINE.parse_error_response(500, b"Internal Server Error", None).message == "Internal Server Error"
    assert ENGINE.parse_error_response(401, b"", None).status == 502


def look(health: FetchResponse, tags: FetchResponse) -> Inventory:
    looking = ENGINE.inspect_server(())
    assert next(looking).optional
    looking.send(health)
    with pytest.raises(StopIteration) as end:
        looking.send(tags)
    return end.value.value


TAGS = FetchResponse(200, b'{"models":[{"name":"qwen2.5-coder:14b","size":9,"details":{"family":"qwen2"}},"phi"]}')


@pytest.mark.parametrize(
    ("feeling", "state"),
    [("healthy", State.UP), ("degraded", State.UP), ("warning", State.DOWN), ("critical", State.DOWN)],
)
def test_two_of_its_four_words_for_health_count_as_up(feeling: str, state: State):
    inventory = look(FetchResponse(503 if state is State.DOWN else 200, json.dumps({"status": feeling}).encode()), TAGS)
    assert (inventory.state, inventory.detail) == (state, f"health: {feeling}")


def test_its_models_are_listed_even_when_it_has_no_health():
    inventory = look(FetchResponse(0), TAGS)
    assert inventory.state is State.UP
    completion = frozenset({"completion"})
    assert inventory.models == (
        Model("qwen2.5-coder:14b", size=9, family="qwen2", capabilities=completion),
        Model("phi", capabilities=completion),
    )


@pytest.mark.parametrize(
    "tags",
    [FetchResponse(200, b"{}"), FetchResponse(200, b"<html>"), FetchResponse(500, b"x"), FetchResponse(404, b"")],
)
def test_what_lists_no_models_is_no_such_server(tags: FetchResponse):
    looking = ENGINE.inspect_server(())
    next(looking)
    looking.send(FetchResponse(200, b'{"status":"healthy"}'))
    with pytest.raises(UpstreamError):
        looking.send(tags)
