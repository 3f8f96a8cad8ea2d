"""Agent chat without streaming: requests, allowed kinds of engine, responses."""

import json
from typing import Any

import pytest

from penstock.dialects.agent_chat.chat import DIALECT
from penstock.domain.content import AgentTask
from penstock.domain.errors import ClientGone, InvalidRequest, NoServer, Unavailable
from penstock.domain.provenance import Provenance
from penstock.domain.request import Call, Operation
from penstock.domain.response import Choice, ModelResponse, Usage

SEND, PLAN = DIALECT.endpoints
BY = Provenance("r1", 1756634400.0, "victoria", "http://localhost:8010", "victoria", "victoria")


def parse(**body: object) -> Call:
    return SEND.parse_request(json.dumps(body).encode(), b"")


def test_a_message_is_a_task_for_victoria_and_then_mlx() -> None:
    call = parse(content="Привет", expert_name="Виктор", chat_id="c1", mode="fast")
    assert (call.operation, call.kinds, call.stream, call.model) == (Operation.AGENT, ("victoria", "mlx"), False, "")
    assert SEND.decode_content(call) == AgentTask("Привет", expert="Виктор", mode="fast", session="c1")


def test_without_victoria_only_mlx_is_allowed() -> None:
    assert parse(content="a", use_victoria=False, model="qwen2.5:7b").kinds == ("mlx",)
    assert parse(content="a", use_victoria=False, model="qwen2.5:7b").model == "qwen2.5:7b"


def test_ollama_is_never_allowed() -> None:
    assert all("ollama" not in parse(content="a", use_victoria=use).kinds for use in (True, False))


def test_a_plan_is_for_victoria_only() -> None:
    call = PLAN.parse_request(b'{"content": "go"}', b"")
    assert call.kinds == ("victoria",)
    assert PLAN.decode_content(call) == AgentTask("go", plan=True)
    with pytest.raises(InvalidRequest) as caught:
        PLAN.parse_request(b'{"content": "go", "use_victoria": false}', b"")
    assert caught.value.param == "use_victoria"


@pytest.mark.parametrize("endpoint", DIALECT.endpoints)
@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        (b"", "body", "empty"),
        (b"hello", "body", "not valid JSON"),
        (b"{}", "content", "missing"),
        (b'{"content": " "}', "content", "empty"),
        (b'{"content": 1}', "content", "must be text"),
        (b'{"contet": "a"}', "contet", "Did you mean `content`"),
        (b'{"content": "a", "use_victoria": "yes"}', "use_victoria", "must be true or false"),
        (b'{"content": "a", "use_victoria": null}', "use_victoria", "must be true or false"),
        (b'{"content": "a", "expert_name": 1}', "expert_name", "must be text"),
        (b'{"content": "a", "mode": []}', "mode", "must be text"),
        (b'{"content": "a", "chat_id": 3}', "chat_id", "must be text"),
        (b'{"content": "a", "message": "b"}', "message", "not a field"),
    ],
)
def test_a_bad_body_is_refused_with_the_field_and_the_reason(
    endpoint: Any, body: bytes, param: str, words: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        endpoint.parse_request(body, b"")
    assert caught.value.param == param
    assert words in caught.value.message


def render(endpoint: Any, answer: ModelResponse, provenance: Provenance = BY) -> dict[str, Any]:
    call = endpoint.parse_request(b'{"content": "a"}', b"")
    loaded: dict[str, Any] = json.loads(endpoint.create_renderer(call, provenance).render_response(answer, provenance))
    return loaded


def test_a_response_contains_the_steps() -> None:
    parsed = render(SEND, ModelResponse((Choice("Готово", finish="stop"),), Usage(1, 2), steps=("ищу", "пишу")))
    assert (parsed["status"], parsed["content"], parsed["steps"]) == ("success", "Готово", ["ищу", "пишу"])
    assert (parsed["model"], parsed["provider"], parsed["timestamp"]) == ("victoria", "victoria", "2025-08-31T10:00:00")
    assert parsed["metadata"].items() >= {"server_used": "http://localhost:8010", "total_tokens": 3}.items()


def test_a_clarification_is_the_content_of_a_response_without_text() -> None:
    parsed = render(SEND, ModelResponse((Choice(),), steps=("ищу", "Какой проект?")))
    assert parsed["content"] == "Какой проект?"


def test_a_plan_is_in_its_own_field() -> None:
    assert render(PLAN, ModelResponse((Choice("1. найти"),)))["plan"] == "1. найти"


def test_a_response_of_the_fallback_is_marked() -> None:
    by = Provenance("r", provider="mlx", model="qwen", is_fallback=True, warning="Victoria is away", is_simulated=True)
    parsed = render(SEND, ModelResponse((Choice("a", thinking="b"),)), by)
    assert (parsed["warning"], parsed["thinking"], parsed["provider"]) == ("Victoria is away", "b", "mlx")
    assert (parsed["metadata"]["fallback"], parsed["metadata"]["simulated"]) == (True, True)


def test_an_error_is_problem_details() -> None:
    assert DIALECT.media_type == b"application/problem+json"
    assert json.loads(DIALECT.render_error(Unavailable("Not now.", retry_after=5), "r")) == {
        "type": "about:blank",
        "title": "Service Unavailable",
        "status": 503,
        "detail": "Not now.",
        "code": "unavailable",
        "retry_after": 5,
        "request_id": "r",
    }
    assert json.loads(DIALECT.render_error(ClientGone("gone"), ""))["status"] == 499


def test_the_error_without_any_server_says_what_to_do() -> None:
    parsed = json.loads(DIALECT.render_error(NoServer("victoria: connection refused.", retry_after=5), "r"))
    assert (parsed["status"], parsed["code"], parsed["retry_after"]) == (503, "no_server", 5)
    assert parsed["detail"].startswith(
        "Neither Victoria nor the MLX API server is available for this chat. Start one of them"
    )
    assert parsed["detail"].endswith("send the message again (victoria: connection refused).")
