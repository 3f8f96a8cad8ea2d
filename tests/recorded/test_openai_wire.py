"""OpenAI's wire format: recorded responses of real servers, and round trips between dialect and engine."""

import re
from dataclasses import replace
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock import dialects, engines
from penstock.dialects.base import Endpoint
from penstock.domain.content import (
    Audio,
    Chat,
    Completion,
    Content,
    Embedding,
    Format,
    Image,
    Message,
    Part,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
)
from penstock.domain.errors import (
    ContextLengthExceeded,
    ModelNotFound,
    Unsupported,
    UpstreamError,
    UpstreamStatus,
)
from penstock.domain.fleet import Inventory, Model
from penstock.domain.provenance import Provenance
from penstock.domain.request import Call, Operation
from penstock.domain.response import Choice, Chunk, Logprob, ModelResponse, ToolDelta, Usage, assemble_response
from penstock.engines.base import Engine, EngineRequest, FetchResponse
from penstock.engines.system_messages import merge_system_messages
from tests.support import transcripts
from tests.support.transcripts import RecordedExchange

ENDPOINTS = {endpoint.wire: endpoint for dialect in dialects.load() for endpoint in dialect.endpoints}
CHAT = ENDPOINTS["openai.chat"]
ENGINES = engines.load()
SERVERS = {
    "vllm": "vllm",
    "vllm-wire": "vllm",
    "llamacpp": "llamacpp",
    "llamacpp-wire": "llamacpp",
    "llamacpp-embeddings": "llamacpp",
    "mlx": "openai",
    "mlx-wire": "openai",
    "transformers": "openai",
    "llama-cpp-python": "openai",
}
FINISH = re.compile(rb'"finish_reason": ?"')
WIRES = {
    "/v1/chat/completions": "openai.chat",
    "/v1/completions": "openai.completions",
    "/v1/embeddings": "openai.embeddings",
}


def is_refused_by_gateway(recorded: RecordedExchange) -> bool:
    """Return True for requests that our dialect refuses though some servers answer them: a chat without messages."""
    request = recorded.request_json
    return recorded.status == 200 and "chat" in recorded.path and not (request and request.get("messages"))


RECORDED = [
    pytest.param(ENGINES[kind], recorded, id=f"{server} {recorded.name[:80]} {at}")
    for server, kind in SERVERS.items()
    for at, recorded in enumerate(transcripts.load_transcript(server))
    if recorded.path in WIRES and recorded.method == "POST" and not is_refused_by_gateway(recorded)
]


def select_recorded(*, status: int, streamed: bool | None = None) -> list[Any]:
    return [
        param
        for param in RECORDED
        if (param.values[1].status < 400) == (status < 400) and streamed in (None, param.values[1].is_stream)
    ]


def parse_call(recorded: RecordedExchange) -> tuple[Endpoint, Call]:
    endpoint = ENDPOINTS[WIRES[recorded.path]]
    return endpoint, endpoint.parse_request(recorded.request_body, b"application/json")


def read_chunks(engine: Engine, call: Call, content: Content, *pieces: bytes) -> list[Chunk]:
    reader = engine.create_reader(call, content, EngineRequest("/", stream=call.stream))
    chunks = [chunk for piece in pieces for chunk in reader.feed(piece)]
    return chunks + list(reader.close())


def split_at(data: bytes, cuts: list[int]) -> list[bytes]:
    return [data[a:b] for a, b in pairwise([0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)])]


def recorded_text(recorded: RecordedExchange) -> str:
    """Return the text of the first choice as recorded."""
    objects = [event for event in recorded.events if isinstance(event, dict)] if recorded.is_stream else [recorded.json]
    choices = [choice for one in objects for choice in one["choices"] if choice["index"] == 0]
    parts = [choice.get("delta") or choice.get("message") or {"content": choice.get("text")} for choice in choices]
    return "".join(part.get("content") or "" for part in parts)


@pytest.mark.parametrize(("engine", "recorded"), select_recorded(status=200))
def test_responses_of_real_servers_are_parsed(engine: Engine, recorded: RecordedExchange) -> None:
    endpoint, call = parse_call(recorded)
    content = endpoint.decode_content(call)
    answer = assemble_response(read_chunks(engine, call, content, recorded.body))
    if isinstance(content, Embedding):
        assert [len(vector) > 0 for vector in answer.vectors] == [True] * len(content.inputs)
        return
    assert answer.choices[0].text == recorded_text(recorded)
    assert answer.choices[0].finish in ("stop", "length", "tool_calls")
    assert answer.choices[0].text or answer.choices[0].tool_calls


HI = Chat((Message("user", (Text("hi"),)),))


@pytest.mark.parametrize(("engine", "recorded"), select_recorded(status=200, streamed=True))
def test_any_split_of_a_recorded_stream_gives_the_same_response(engine: Engine, recorded: RecordedExchange) -> None:
    _, call = parse_call(recorded)
    expected = read_chunks(engine, call, HI, recorded.body)

    @settings(max_examples=20)
    @given(st.lists(st.integers(0, 1 << 20), max_size=8))
    def any_split(cuts: list[int]) -> None:
        assert read_chunks(engine, call, HI, *split_at(recorded.body, cuts)) == expected

    any_split()
    assert expected


@pytest.mark.parametrize(("engine", "recorded"), select_recorded(status=200, streamed=True))
def test_a_recorded_stream_cut_before_its_finish_is_never_complete(engine: Engine, recorded: RecordedExchange) -> None:
    _, call = parse_call(recorded)
    finish = FINISH.search(recorded.body)
    assert finish is not None
    with pytest.raises(UpstreamError):
        read_chunks(engine, call, HI, recorded.body[: finish.start()])


@pytest.mark.parametrize(("engine", "recorded"), select_recorded(status=200))
def test_usage_of_a_passed_through_response_equals_that_of_a_translated_one(
    engine: Engine, recorded: RecordedExchange
) -> None:
    endpoint, call = parse_call(recorded)
    content = Embedding(("a",)) if endpoint.wire == "openai.embeddings" else HI
    translated = assemble_response(read_chunks(engine, call, content, recorded.body)).usage
    assert endpoint.parse_usage(recorded.body[-4096:] if call.stream else recorded.body, call.stream) == translated
    assert translated is not None or b"usage" not in recorded.body.replace(b'"usage":null', b"")


@pytest.mark.parametrize(("engine", "recorded"), select_recorded(status=200, streamed=True))
def test_the_end_of_a_passed_through_stream_is_recognized(engine: Engine, recorded: RecordedExchange) -> None:
    endpoint, _ = parse_call(recorded)
    assert endpoint.is_complete(recorded.body[-4096:])
    assert not endpoint.is_complete(recorded.body[:200])


@pytest.mark.parametrize(("engine", "recorded"), select_recorded(status=400))
def test_refusals_of_real_servers_have_a_one_sentence_message(engine: Engine, recorded: RecordedExchange) -> None:
    error = engine.parse_error_response(recorded.status, recorded.body, None)
    assert isinstance(error, UpstreamStatus | ModelNotFound | Unsupported | ContextLengthExceeded)
    assert "\n" not in error.message
    assert len(error.message) > 10


@pytest.mark.parametrize("server", ["vllm-wire", "llamacpp-wire"])
def test_real_overflows_have_both_numbers(server: str) -> None:
    engine = ENGINES[SERVERS[server]]
    overflows = [r for r in transcripts.load_transcript(server) if r.status == 400 and b"context" in r.body]
    errors = [engine.parse_error_response(r.status, r.body, None) for r in overflows]
    assert len(errors) >= 3
    assert all(isinstance(error, ContextLengthExceeded) for error in errors)
    assert all("256" in error.message for error in errors)
    assert all("257" in error.message or "498" in error.message or "482" in error.message for error in errors)


@pytest.mark.parametrize("server", ["vllm", "mlx"])
def test_a_model_that_a_real_server_does_not_have_is_not_found(server: str) -> None:
    (refused,) = [r for r in transcripts.load_transcript(server) if r.status == 404 and b'"nope"' in r.request_body]
    assert isinstance(ENGINES[SERVERS[server]].parse_error_response(404, refused.body, None), ModelNotFound)


@pytest.mark.parametrize("server", ["vllm-wire", "llamacpp-wire", "mlx-wire"])
@pytest.mark.parametrize("streamed", [True, False])
def test_real_tool_calls_are_complete(server: str, streamed: bool) -> None:
    (recorded,) = [
        r for r in transcripts.load_transcript(server) if b'"tools"' in r.request_body and r.is_stream is streamed
    ]
    _, call = parse_call(recorded)
    choice = assemble_response(read_chunks(ENGINES[SERVERS[server]], call, HI, recorded.body)).choices[0]
    (tool,) = choice.tool_calls
    assert tool.id
    assert (tool.name, msgspec.json.decode(tool.arguments), choice.finish) == (
        "get_weather",
        {"city": "Paris"},
        "tool_calls",
    )


@pytest.mark.parametrize("server", ["vllm-wire", "llamacpp-wire"])
def test_real_logprobs_match_the_tokens(server: str) -> None:
    found = [r for r in transcripts.load_transcript(server) if b'"logprobs"' in r.request_body and r.status == 200]
    for recorded in found:
        endpoint, call = parse_call(recorded)
        choice = assemble_response(
            read_chunks(ENGINES[SERVERS[server]], call, endpoint.decode_content(call), recorded.body)
        ).choices[0]
        assert "".join(one.token for one in choice.logprobs) == choice.text
    assert len(found) == 4


@pytest.mark.parametrize(
    ("server", "models", "context"),
    [
        ("vllm", ["tiny"], 2048),
        ("vllm-wire", ["tiny"], 256),
        ("llamacpp", ["tiny"], 2048),
        ("llamacpp-wire", ["tiny"], 256),
        ("mlx", [], 0),
        ("mlx-wire", ["ENGINES/model/tiny"], 0),
        ("transformers", [], 0),
        ("llama-cpp-python", ["tiny"], 0),
    ],
)
def test_recorded_servers_can_be_probed(server: str, models: list[str], context: int) -> None:
    answers = {r.path: r for r in transcripts.load_transcript(server) if r.method == "GET"}
    inventory = inspect(ENGINES[SERVERS[server]], {path: (r.status, r.body) for path, r in answers.items()})
    assert [model.name for model in inventory.models] == models
    assert all(model.context_length == context for model in inventory.models)
    assert inventory.models or "models" in inventory.detail


def inspect(engine: Engine, answers: dict[str, tuple[int, bytes]]) -> Inventory:
    steps = engine.inspect_server(())
    fetch = next(steps)
    while True:
        try:
            fetch = steps.send(FetchResponse(*answers.get(fetch.path, (0, b""))))
        except StopIteration as end:
            found: Inventory = end.value
            return found


# ---- there and back again

words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=10)
names = st.text("abcdefgh_", min_size=1, max_size=8)
objects = st.dictionaries(names, st.integers() | words | st.none(), max_size=3).map(msgspec.json.encode)
parts: st.SearchStrategy[Part] = st.one_of(
    st.builds(Text, words),
    st.builds(Image, data=st.just("iVBORw0="), media_type=st.sampled_from(["image/png", "image/jpeg"])),
    st.builds(Image, url=st.just("https://x.test/a.png"), detail=st.sampled_from(["", "low", "high"])),
    st.builds(Audio, st.just("AAAA"), st.sampled_from(["wav", "mp3"])),
)
calls = st.builds(ToolCall, names, names, objects.map(bytes.decode))
messages = st.one_of(
    st.builds(Message, st.sampled_from(["system", "developer", "user"]), st.lists(parts, min_size=1).map(tuple)),
    st.builds(
        Message,
        st.just("assistant"),
        st.lists(st.builds(Text, words), max_size=1).map(tuple),
        st.lists(calls, max_size=2).map(tuple),
        thinking=st.just("") | words,
        refusal=st.just("") | words,
    ),
    st.builds(Message, st.just("tool"), st.lists(st.builds(Text, words), max_size=1).map(tuple), tool_call_id=names),
)
optional = st.none() | st.floats(0, 2, allow_nan=False)
samplings = st.builds(
    Sampling,
    max_tokens=st.none() | st.integers(1, 9999),
    temperature=optional,
    top_p=optional,
    top_k=st.none() | st.integers(1, 100),
    min_p=optional,
    seed=st.none() | st.integers(0, 2**31),
    stop=st.lists(words, max_size=3).map(tuple),
    presence_penalty=optional,
    frequency_penalty=optional,
    repeat_penalty=optional,
    n=st.none() | st.integers(1, 4),
)
thoughts = st.one_of(
    st.none(),
    st.builds(Thinking),
    st.builds(Thinking, enabled=st.just(False)),
    st.builds(Thinking, effort=st.sampled_from(["minimal", "low", "medium", "high", "max"])),
)
chats = st.builds(
    Chat,
    st.lists(messages, min_size=1, max_size=4).map(tuple),
    tools=st.lists(st.builds(Tool, names, st.just("") | words, st.just(b"") | objects, st.none() | st.booleans())).map(
        tuple
    ),
    tool_choice=st.none()
    | st.builds(ToolChoice, st.sampled_from(["auto", "none", "required"]))
    | st.builds(ToolChoice, st.just("function"), names),
    parallel_tool_calls=st.none() | st.booleans(),
    format=st.none()
    | st.just(Format())
    | st.builds(Format, objects.map(lambda schema: schema), names, st.none() | st.booleans(), st.just("") | words),
    sampling=samplings,
    thinking=thoughts,
    user=st.just("") | words,
    extra=st.just(()) | st.builds(lambda raw: (("logit_bias", raw),), objects),
)
completions = st.builds(
    Completion,
    st.lists(words, min_size=1, max_size=3).map(tuple)
    | st.lists(st.lists(st.integers(0, 999), min_size=1, max_size=4).map(tuple), min_size=1, max_size=3).map(tuple),
    sampling=samplings,
)
embeddings = st.builds(Embedding, st.lists(words, min_size=1, max_size=3).map(tuple), base64=st.booleans())


def round_trip(kind: str, wire: str, content: Content) -> Content:
    call = Call(wire, Operation.CHAT, "m", True, b"")
    outgoing = ENGINES[kind].translate_request(call, content, Model("m"))
    endpoint = ENDPOINTS[wire]
    assert outgoing.path in endpoint.paths
    return endpoint.decode_content(endpoint.parse_request(outgoing.body, b"application/json"))


def with_one_system_message(chat: Chat) -> Chat:
    """Merge system messages, and the texts of each message that has nothing but texts."""
    merged = merge_system_messages(chat.messages, keeps_later=False)
    return replace(chat, messages=tuple(map(join_texts, merged)))


def join_texts(message: Message) -> Message:
    texts = [part.text for part in message.parts if isinstance(part, Text)]
    if len(texts) < 2 or len(texts) < len(message.parts):
        return message
    return replace(message, parts=(Text("\n".join(texts)),))


@pytest.mark.parametrize("kind", ["vllm", "llamacpp"])
@given(chat=chats)
def test_a_chat_survives_a_round_trip(kind: str, chat: Chat) -> None:
    assert round_trip(kind, "openai.chat", chat) == with_one_system_message(chat)


@given(chats)
def test_any_server_gets_all_but_thinking(chat: Chat) -> None:
    back = round_trip("openai", "openai.chat", chat)
    chat = with_one_system_message(chat)
    assert isinstance(back, Chat)
    assert (back.tools, back.tool_choice, back.format, back.sampling, back.extra, back.user) == (
        chat.tools,
        chat.tool_choice,
        chat.format,
        chat.sampling,
        chat.extra,
        chat.user,
    )
    assert [message.parts for message in back.messages] == [message.parts for message in chat.messages]
    assert [message.tool_calls for message in back.messages] == [message.tool_calls for message in chat.messages]
    assert all(not message.thinking for message in back.messages)
    assert back.thinking is None  # nothing says that the model can think


@pytest.mark.parametrize("kind", ["vllm", "llamacpp", "openai"])
@given(completion=completions)
def test_a_completion_survives_a_round_trip(kind: str, completion: Completion) -> None:
    assert round_trip(kind, "openai.completions", completion) == completion


@pytest.mark.parametrize("kind", ["vllm", "llamacpp", "openai"])
@given(embedding=embeddings)
def test_an_embedding_survives_a_round_trip(kind: str, embedding: Embedding) -> None:
    assert round_trip(kind, "openai.embeddings", embedding) == embedding


logprobs = st.builds(
    lambda token, value: Logprob(token, value, tuple(token.encode()), (Logprob(token, value, tuple(token.encode())),)),
    words,
    st.floats(-9, 0, allow_nan=False),
)
usages = st.builds(Usage, st.integers(0, 999), st.integers(0, 999), st.integers(0, 9), st.integers(0, 9))


@st.composite
def answers(draw: st.DrawFn) -> list[Chunk]:
    """Generate a stream of one or two finished choices, with usage."""
    chunks: list[Chunk] = []
    for index in range(draw(st.integers(1, 2))):
        parts = [Chunk(text, choice=index) for text in draw(st.lists(words, max_size=4))]
        parts += [Chunk(thinking=text, choice=index) for text in draw(st.lists(words, max_size=2))]
        parts += [Chunk(one.token, choice=index, logprobs=(one,)) for one in draw(st.lists(logprobs, max_size=2))]
        parts = list(draw(st.permutations(parts)))
        called = draw(st.lists(calls, max_size=2))
        for at, call in enumerate(called):
            middle = draw(st.integers(0, len(call.arguments)))
            parts.append(Chunk(choice=index, tool_calls=(ToolDelta(at, call.id, call.name, call.arguments[:middle]),)))
            parts.append(Chunk(choice=index, tool_calls=(ToolDelta(at, arguments=call.arguments[middle:]),)))
        finish = "tool_calls" if called else draw(st.sampled_from(["stop", "length", "content_filter"]))
        chunks += [*parts, Chunk(choice=index, finish=finish)]
    return [*chunks, Chunk(usage=draw(usages))]


BY = Provenance("r1", created=1.7e9, model="m")


@given(answers(), st.lists(st.integers(0, 1 << 16), max_size=5))
def test_the_engine_reads_the_stream_that_the_dialect_renders(chunks: list[Chunk], cuts: list[int]) -> None:
    body = b'{"model":"m","messages":[1],"stream":true,"stream_options":{"include_usage":true}}'
    call = CHAT.parse_request(body, b"")
    writer = CHAT.create_renderer(call, BY)
    data = b"".join(writer.render_chunk(chunk) for chunk in chunks) + writer.render_end()
    assert assemble_response(read_chunks(ENGINES["openai"], call, HI, *split_at(data, cuts))) == assemble_response(
        chunks
    )
    assert CHAT.parse_usage(data[-4096:], True) == assemble_response(chunks).usage
    assert CHAT.is_complete(data[-4096:])


@given(answers())
def test_the_engine_reads_the_response_that_the_dialect_renders(chunks: list[Chunk]) -> None:
    call = CHAT.parse_request(b'{"model":"m","messages":[1]}', b"")
    answer = assemble_response(chunks)
    data = CHAT.create_renderer(call, BY).render_response(answer, BY)
    assert assemble_response(read_chunks(ENGINES["openai"], call, HI, data)) == answer
    assert CHAT.parse_usage(data, False) == answer.usage


@given(st.lists(words, min_size=1), usages, st.booleans())
def test_completions_survive_a_round_trip(texts: list[str], usage: Usage, stream: bool) -> None:
    endpoint = ENDPOINTS["openai.completions"]
    fields = {"prompt": "a", "stream": stream, "stream_options": {"include_usage": True}}
    call = endpoint.parse_request(msgspec.json.encode(fields), b"")
    chunks = [*(Chunk(text) for text in texts), Chunk(finish="length"), Chunk(usage=usage)]
    writer = endpoint.create_renderer(call, BY)
    if stream:
        data = b"".join(writer.render_chunk(chunk) for chunk in chunks) + writer.render_end()
    else:
        data = writer.render_response(assemble_response(chunks), BY)
    content = Completion(("a",))
    assert assemble_response(read_chunks(ENGINES["vllm"], call, content, data)) == ModelResponse(
        (Choice("".join(texts), finish="length"),), usage
    )


@given(
    st.lists(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=4).map(tuple), min_size=1),
    st.integers(0, 99),
)
def test_vectors_survive_a_round_trip(vectors: list[tuple[float, ...]], tokens: int) -> None:
    endpoint = ENDPOINTS["openai.embeddings"]
    call = endpoint.parse_request(b'{"input":"a","encoding_format":"float"}', b"")
    answer = ModelResponse((), Usage(tokens), tuple(vectors))
    data = endpoint.create_renderer(call, BY).render_response(answer, BY)
    assert assemble_response(read_chunks(ENGINES["openai"], call, Embedding(("a",)), data)).vectors == answer.vectors
