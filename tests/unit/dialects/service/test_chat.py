"""Chat of the service API: requests, responses, and the errors for invalid bodies."""

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.dialects.service.chat import DIALECT
from penstock.domain.content import Chat
from penstock.domain.errors import InvalidRequest, LlmDisabled, NoServer
from penstock.domain.provenance import Provenance
from penstock.domain.request import Call, Operation
from penstock.domain.response import Choice, ModelResponse, Usage

ENDPOINT = DIALECT.endpoints[0]
BY = Provenance(
    "req-1",
    created=1756634400.0,
    server="primary",
    server_url="http://localhost:11434",
    provider="ollama",
    model="gpt-oss:20b",
    requested="gpt-oss:20b",
    ttft_seconds=0.1234,
    total_seconds=0.9,
)
ANSWER = ModelResponse((Choice("Машинное обучение - это…", finish="stop"),), Usage(45, 128, load_seconds=0.25))


def parse(body: object) -> Call:
    return ENDPOINT.parse_request(json.dumps(body, ensure_ascii=False).encode(), b"application/json")


def render(answer: ModelResponse = ANSWER, provenance: Provenance = BY) -> dict[str, Any]:
    body = ENDPOINT.create_renderer(parse({"message": "Привет"}), provenance).render_response(answer, provenance)
    loaded: dict[str, Any] = json.loads(body)
    return loaded


def get_error(body: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        ENDPOINT.parse_request(body, b"application/json")
    return caught.value


def test_the_documented_request_is_parsed() -> None:
    call = parse(
        {
            "message": "Расскажи о машинном обучении",
            "model": "gpt-oss:20b",
            "history": [{"role": "user", "content": "Привет"}, {"role": "assistant", "content": "Здравствуйте!"}],
            "max_tokens": 2048,
        }
    )
    chat = ENDPOINT.decode_content(call)
    assert (call.model, call.operation, call.stream, call.use_defaults, call.max_tokens) == (
        "gpt-oss:20b",
        Operation.CHAT,
        False,
        True,
        2048,
    )
    assert isinstance(chat, Chat)
    assert [(message.role, message.text) for message in chat.messages] == [
        ("user", "Привет"),
        ("assistant", "Здравствуйте!"),
        ("user", "Расскажи о машинном обучении"),
    ]


def test_leading_system_messages_are_joined_and_later_ones_keep_their_place() -> None:
    turns = [("system", "Answer in Russian"), ("user", "a"), ("system", "Now in English")]
    history = [{"role": role, "content": content} for role, content in turns]
    chat = ENDPOINT.decode_content(parse({"message": "b", "system": "Be brief", "history": history}))
    assert isinstance(chat, Chat)
    assert [(message.role, message.text) for message in chat.messages] == [
        ("system", "Be brief\n\nAnswer in Russian"),
        ("user", "a"),
        ("system", "Now in English"),
        ("user", "b"),
    ]


def test_a_system_text_comes_first_and_sampling_is_kept() -> None:
    chat = ENDPOINT.decode_content(parse({"message": "a", "system": "Be brief", "temperature": 0, "top_p": 0.5}))
    assert isinstance(chat, Chat)
    assert (chat.messages[0].role, chat.messages[0].text) == ("system", "Be brief")
    assert (chat.sampling.temperature, chat.sampling.top_p, chat.sampling.max_tokens) == (0.0, 0.5, None)


@pytest.mark.parametrize(
    ("model", "meant"),
    [(None, ""), ("", ""), ("auto", ""), (" AUTO ", ""), ("auto:code", "auto:code"), ("gemma3:1b", "gemma3:1b")],
)
def test_no_model_or_auto_leaves_the_choice_to_the_gateway(model: str | None, meant: str) -> None:
    assert parse({"message": "a", "model": model}).model == meant
    assert parse({"message": "a"}).model == ""


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        (b"", "body", "empty"),
        (b" \n", "body", "empty"),
        (b"message=hi", "body", "not valid JSON"),
        (b'{"message": "a"', "body", "not valid JSON"),
        (b'{"message": "a"} b', "body", "not valid JSON"),
        (b"[]", "body", "must be an object"),
        (b"null", "body", "must be an object"),
        (b"{}", "message", "missing"),
        (b'{"mesage": "a"}', "mesage", "Did you mean `message`"),
        (b'{"message": "a", "Model": "b"}', "Model", "Did you mean `model`"),
        (b'{"message": "a", "xyzzy": 1}', "xyzzy", "The fields are message, model,"),
        (b'{"message": ""}', "message", "must not be empty"),
        (b'{"message": " \\n"}', "message", "must not be empty"),
        (b'{"message": null}', "message", "must be text"),
        (b'{"message": 1}', "message", "must be text, not a whole number"),
        (b'{"message": ["a"]}', "message", "must be text, not a list"),
        (b'{"message": "a", "model": 1}', "model", "must be text"),
        (b'{"message": "a", "history": {}}', "history", "must be a list, not an object"),
        (b'{"message": "a", "history": ["a"]}', "history[0]", "must be an object"),
        (b'{"message": "a", "history": [{"role": "user"}]}', "history[0].content", "missing"),
        (b'{"message": "a", "history": [{"content": "a"}]}', "history[0].role", "missing"),
        (
            b'{"message": "a", "history": [{"role": "bot", "content": "a"}]}',
            "history[0].role",
            "assistant, system, user",
        ),
        (b'{"message": "a", "history": [{"role": "user", "content": 1}]}', "history[0].content", "must be text"),
        (
            b'{"message": "a", "history": [{"role": "user", "content": "", "contnt": 1}]}',
            "history[0].contnt",
            "content",
        ),
        (b'{"message": "a", "max_tokens": 0}', "max_tokens", ">= 1"),
        (b'{"message": "a", "max_tokens": 1.5}', "max_tokens", "whole number"),
        (b'{"message": "a", "max_tokens": "9"}', "max_tokens", "not text"),
        (b'{"message": "a", "max_tokens": 99999999999999999999999}', "max_tokens", "<="),
        (b'{"message": "a", "temperature": 2.1}', "temperature", "<= 2"),
        (b'{"message": "a", "temperature": true}', "temperature", "must be a number"),
        (b'{"message": "a", "temperature": 1e999}', "temperature", "out of range"),
        (b'{"message": "a", "temperature": NaN}', "body", "not valid JSON"),
        (b'{"message": "a", "top_p": 0}', "top_p", "> 0"),
        (b'{"message": "a", "system": []}', "system", "must be text"),
        (b'{"message": "a", "chat_id": 7}', "chat_id", "must be text"),
    ],
)
def test_a_bad_body_is_refused_with_the_field_and_the_reason(body: bytes, param: str, words: str) -> None:
    error = get_error(body)
    assert error.param == param
    assert words in error.message
    assert (error.status, error.code) == (400, "invalid_request")


def outcome(body: bytes) -> Chat | InvalidRequest:
    try:
        chat = ENDPOINT.decode_content(ENDPOINT.parse_request(body, b""))
    except InvalidRequest as error:
        return error
    assert isinstance(chat, Chat)
    return chat


@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused(body: bytes) -> None:
    result = outcome(body)
    assert isinstance(result, Chat) or (result.param and result.message.endswith("."))


NAMES = ("message", "model", "history", "max_tokens", "temperature", "top_p", "system", "chat_id", "mesage")
TURN = {"role": "user", "content": "a"}
VALUES: tuple[object, ...] = (
    None,
    True,
    0,
    1,
    -1,
    0.5,
    10**30,
    "",
    "a",
    "\x00",
    [],
    [None],
    [TURN],
    [TURN, {**TURN, "x": 1}],
    {},
    TURN,
)


@given(st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES), max_size=5))
def test_any_object_is_parsed_or_refused_with_one_of_its_fields(body: dict[str, object]) -> None:
    result = outcome(json.dumps(body).encode())
    if isinstance(result, Chat):
        assert result.messages[-1].text == body["message"]
    else:
        assert re.split(r"[.\[]", result.param or "")[0] in {*body, "message"}


def test_deeply_nested_input_is_refused_and_not_fatal() -> None:
    assert get_error(b'{"message":' + b"[" * 100_000).status == 400
    assert get_error(b'{"message":"a","x":' + b"[" * 100_000).status == 400


def test_the_answer_has_every_key_of_the_document_and_metadata() -> None:
    answer = render()
    assert {name: answer[name] for name in list(answer)[:7]} == {
        "status": "success",
        "response": "Машинное обучение - это…",
        "model": "gpt-oss:20b",
        "prompt_tokens": 45,
        "response_tokens": 128,
        "total_tokens": 173,
        "timestamp": "2025-08-31T10:00:00",
    }
    assert answer["metadata"] == {
        "model": "gpt-oss:20b",
        "provider": "ollama",
        "distributed_routing": False,
        "server_used": "http://localhost:11434",
        "complexity_level": None,
        "used_fast_model": False,
        "task_type": None,
        "fallback": False,
        "reason": None,
        "finish_reason": "stop",
        "queue_ms": 0.0,
        "load_ms": 250.0,
        "ttft_ms": 123.4,
        "total_ms": 900.0,
        "request_id": "req-1",
    }
    assert "warning" not in answer


def test_russian_is_not_escaped() -> None:
    call = parse({"message": "Привет"})
    assert "Машинное".encode() in ENDPOINT.create_renderer(call, BY).render_response(ANSWER, BY)


def test_a_warning_and_simulation_are_reported() -> None:
    other = Provenance("r", warning="Используется упрощённая модель", is_simulated=True, is_fallback=True)
    answer = render(provenance=other)
    assert answer["warning"] == "Используется упрощённая модель"
    assert (answer["metadata"]["simulated"], answer["metadata"]["fallback"]) == (True, True)


def test_an_estimated_count_is_marked() -> None:
    answer = render(ModelResponse((Choice("a"),), Usage(1, 2, estimated=True)))
    assert (answer["prompt_tokens"], answer["response_tokens"], answer["total_tokens"]) == (1, 2, 3)
    assert answer["tokens_estimated"] is True
    assert "tokens_estimated" not in render()


def test_thinking_is_separate_from_the_answer() -> None:
    answer = render(ModelResponse((Choice("42", thinking="6 by 7"),), Usage(1, 2)))
    assert (answer["response"], answer["thinking"]) == ("42", "6 by 7")


def test_an_empty_answer_still_has_the_shape() -> None:
    assert render(ModelResponse())["response"] == ""


def test_an_error_has_the_documents_shape() -> None:
    parsed = json.loads(DIALECT.render_error(NoServer("Nothing is up: start Ollama.", retry_after=5.0), "req-9"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", parsed.pop("timestamp"))
    assert parsed == {
        "status": "error",
        "response": "Nothing is up: start Ollama.",
        "error": {
            "code": "no_server",
            "message": "Nothing is up: start Ollama.",
            "retry_after": 5.0,
            "request_id": "req-9",
        },
        "model": None,
    }
    assert json.loads(DIALECT.render_error(LlmDisabled("LLM_MODE is none."), ""))["error"]["code"] == "llm_disabled"
    assert json.loads(DIALECT.render_error(InvalidRequest("no", param="message"), ""))["error"]["param"] == "message"


def test_the_usage_of_a_response_can_be_read_back() -> None:
    body = ENDPOINT.create_renderer(parse({"message": "a"}), BY).render_response(ANSWER, BY)
    assert ENDPOINT.parse_usage(body, streamed=False) == Usage(45, 128)
    assert ENDPOINT.parse_usage(b'{"prompt_tokens":"many"}', streamed=False) is None
    with pytest.raises(msgspec.DecodeError):
        ENDPOINT.parse_usage(body[:-2], streamed=False)
    assert ENDPOINT.is_complete(body)
    assert not ENDPOINT.is_complete(body[:-2])
