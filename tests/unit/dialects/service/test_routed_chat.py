"""Chat with details on distributed routing: `POST /api/v1/chat`."""

import json

import pytest

from penstock.dialects.service.routed_chat import DIALECT
from penstock.domain.content import Chat
from penstock.domain.errors import InvalidRequest, ModelNotFound
from penstock.domain.provenance import Provenance
from penstock.domain.request import Call
from penstock.domain.response import Choice, ModelResponse, Usage

ENDPOINT = DIALECT.endpoints[0]
BY = Provenance(
    "req-1",
    server="localhost",
    server_url="http://localhost:11434",
    provider="ollama",
    model="gemma3:1b",
    is_distributed=True,
    complexity="trivial",
    task_type="chat",
    used_fast_model=True,
    reason="the fastest model that fits",
)


def parse(**body: object) -> Call:
    return ENDPOINT.parse_request(json.dumps(body).encode(), b"application/json")


def test_the_answer_has_every_key_of_the_document() -> None:
    answer = ModelResponse((Choice("Привет! 😊", finish="stop"),), Usage(3, 4))
    body = ENDPOINT.create_renderer(parse(message="Привет!"), BY).render_response(answer, BY)
    parsed = json.loads(body)
    assert "Привет! 😊".encode() in body
    assert (parsed["success"], parsed["message"]) == (True, "Привет! 😊")
    document = {
        "model": "gemma3:1b",
        "provider": "ollama",
        "distributed_routing": True,
        "server_used": "http://localhost:11434",
        "complexity_level": "trivial",
        "used_fast_model": True,
    }
    assert parsed["metadata"].items() >= document.items()
    assert parsed["metadata"].keys() >= {
        "task_type",
        "fallback",
        "reason",
        "queue_ms",
        "load_ms",
        "ttft_ms",
        "total_ms",
    }
    assert (parsed["metadata"]["prompt_tokens"], parsed["metadata"]["total_tokens"]) == (3, 7)
    assert parsed.keys() == {"success", "message", "metadata"}
    assert ENDPOINT.parse_usage(body, streamed=False) == Usage(3, 4)


def test_a_fallback_warns_in_the_users_language() -> None:
    by = Provenance("r", warning="Используется упрощённая модель", is_fallback=True, is_simulated=True)
    parsed = json.loads(
        ENDPOINT.create_renderer(parse(message="a"), by).render_response(
            ModelResponse((Choice("b", thinking="c"),)), by
        )
    )
    assert parsed["warning"] == "Используется упрощённая модель"
    assert parsed["thinking"] == "c"
    assert (parsed["metadata"]["fallback"], parsed["metadata"]["simulated"]) == (True, True)


def test_an_error_is_a_sentence_and_a_code() -> None:
    parsed = json.loads(DIALECT.render_error(ModelNotFound("No such model.", param="model"), "r"))
    assert parsed == {
        "success": False,
        "error": "No such model.",
        "code": "model_not_found",
        "param": "model",
        "request_id": "r",
    }


@pytest.mark.parametrize(
    ("asked", "kinds"),
    [(None, ()), ("", ()), ("auto", ()), ("vllm", ("vllm",)), (" Ollama ", ("ollama",))],
)
def test_a_provider_restricts_which_servers_may_answer(asked: str | None, kinds: tuple[str, ...]) -> None:
    assert parse(message="a", provider=asked).kinds == kinds


@pytest.mark.parametrize(
    ("body", "model"),
    [
        ({}, ""),
        ({"mode": "auto"}, ""),
        ({"mode": "code"}, "auto:code"),
        ({"mode": "fast", "model": "auto"}, "auto:fast"),
        ({"mode": "fast", "model": "qwen3:14b"}, "qwen3:14b"),
    ],
)
def test_a_mode_narrows_the_choice_and_a_model_makes_it(body: dict[str, str], model: str) -> None:
    call = parse(message="a", **body)
    assert call.model == model
    assert call.use_defaults


@pytest.mark.parametrize(
    ("context", "standing"),
    [("We build bridges", "We build bridges"), ({"город": "Рига"}, '{"город":"Рига"}')],
)
def test_context_becomes_a_message_before_the_history(context: object, standing: str) -> None:
    history = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    chat = ENDPOINT.decode_content(parse(message="c", context=context, history=history))
    assert isinstance(chat, Chat)
    assert [message.text for message in chat.messages] == [standing, "a", "b", "c"]


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({}, "message", "missing"),
        ({"message": "\t"}, "message", "empty"),
        ({"message": "a", "provder": "vllm"}, "provder", "Did you mean `provider`"),
        ({"message": "a", "context": 1}, "context", "must be text or an object, not a whole number"),
        ({"message": "a", "mode": "turbo"}, "mode", "auto, balanced, code, fast, powerful"),
        ({"message": "a", "max_tokens": 1}, "max_tokens", "not a field"),
    ],
)
def test_a_bad_body_is_refused_with_the_field_and_the_reason(body: dict[str, object], param: str, words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(**body)
    assert caught.value.param == param
    assert words in caught.value.message
