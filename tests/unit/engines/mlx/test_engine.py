"""Requests to the MLX API server, its responses and its probe."""

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
def test_unsupported_fields_are_refused_by_name(content: Content, field: str | None):
    with pytest.raises(Unsupported, match="MLX API server") as raised:
        translate(content)
    assert raised.value.param == field


def test_neutral_settings_are_not_refused():
    quiet = Chat(
        (HELLO,), (Tool("f"),), ToolChoice("none"), thinking=Thinking(False), keep_alive=b"5",
        sampling=Sampling(top_p=1.0, top_k=0, presence_penalty=0.0, repeat_penalty=1.0, top_logprobs=0),
        extra=(("metadata", b'{"a":1}'), ("logit_bias", b"{}")),
    )  # fmt: skip
    assert set(json.loads(translate(quiet).body)) == {"messages", "stream", "model"}


def read_chunks(*pieces: bytes, streamed: bool = True) -> list[Chunk]:
    reader = ENGINE.create_reader(ASKED, Chat((HELLO,)), EngineRequest("/api/generate", stream=streamed))
    return [chunk for piece in pieces for chunk in reader.feed(piece)] + list(reader.close())


STREAM = (
    '{"model": "m", "response": "Hé", "done": false}\n{"model": "m", "response": "llo", "done": false}\n'
    '{"model": "m", "response": "", "done": true}\n'
).encode()


def test_lines_are_read_however_they_are_split():
    expected = read_chunks(STREAM)
    assert [chunk.text for chunk in expected] == ["Hé", "llo", ""]
    assert (expected[-1].finish, expected[-1].usage) == ("stop", None)
    for cut in range(len(STREAM)):
        assert read_chunks(STREAM[:cut], STREAM[cut:]) == expected


def test_one_body_and_a_chats_message_are_read():
    assert read_chunks(b'{"model":"m","response":"Hi","done":true}', streamed=False) == [Chunk("Hi", finish="stop")]
    message = b'{"model":"m","message":{"role":"assistant","content":"Hi"},"done":true}'
    assert read_chunks(message, streamed=False) == [Chunk("Hi", finish="stop")]


def test_a_stream_that_ends_early_or_has_an_error_fails():
    with pytest.raises(UpstreamCut, match="MLX API server"):
        read_chunks(STREAM[:60])
    with pytest.raises(UpstreamError, match="out of memory"):
        read_chunks(b'{"error": "out of memory"}\n')
    with pytest.raises(UpstreamGarbage):
        read_chunks(b"<html>\n")


@pytest.mark.parametrize("status", [429, 503, 504])
def test_a_busy_server_is_retryable(status: int):
    error = ENGINE.parse_error_response(status, b'{"detail":"queue full"}', 4.0)
    assert (error.status, error.retryable, error.retry_after) == (status, True, 4.0)
    assert "queue full" in error.message


def test_other_errors_keep_their_message():
    assert isinstance(ENGINE.parse_error_response(404, b'{"detail":"Model x is not loaded"}', None), ModelNotFound)
    missing = ENGINE.parse_error_response(404, b'{"detail":"Not Found"}', None)
    assert not isinstance(missing, ModelNotFound)
    invalid = ENGINE.parse_error_response(422, b'{"detail":[{"loc":["body","prompt"],"msg":"field required"}]}', None)
    assert (invalid.message, invalid.status, invalid.retryable) == ("field required", 422, False)
    assert ENGINE.parse_error_response(500, b"Internal Server Error", None).message == "Internal Server Error"
    assert ENGINE.parse_error_response(401, b"", None).status == 502


def inspect(health: FetchResponse, tags: FetchResponse) -> Inventory:
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
def test_two_of_its_four_health_statuses_count_as_up(feeling: str, state: State):
    inventory = inspect(
        FetchResponse(503 if state is State.DOWN else 200, json.dumps({"status": feeling}).encode()), TAGS
    )
    assert (inventory.state, inventory.detail) == (state, f"health: {feeling}")


def test_models_are_listed_even_without_a_health_endpoint():
    inventory = inspect(FetchResponse(0), TAGS)
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
def test_a_server_without_a_model_list_is_another_kind(tags: FetchResponse):
    looking = ENGINE.inspect_server(())
    next(looking)
    looking.send(FetchResponse(200, b'{"status":"healthy"}'))
    with pytest.raises(UpstreamError):
        looking.send(tags)
