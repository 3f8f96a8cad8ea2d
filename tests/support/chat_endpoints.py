"""Every API that answers chats: its request, the kind of server that answers, the shape of its errors."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from tests.support.raw_client import Answer, chat, post


@dataclass(frozen=True, slots=True)
class ChatEndpoint:
    """`find_message` finds an error's message in a body; `find_code` its code, if the dialect has codes."""

    path: str
    body: dict[str, Any]
    find_message: Callable[[Any], str]
    find_code: Callable[[Any], str] | None = None
    kind: str = "vllm"

    @property
    def request(self) -> bytes:
        return post(self.path, self.body)

    def check_error(self, answer: Answer, status: int, code: str) -> str:
        """Assert that a response is this error in this dialect's shape; return the message."""
        assert answer.status == status, answer
        body = answer.json
        if self.find_code is not None:
            assert self.find_code(body) == code, body
        message = self.find_message(body)
        assert isinstance(message, str)
        assert message
        return message


def _find_openai_message(body: Any) -> str:
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    return str(body["error"]["message"])


def _find_anthropic_message(body: Any) -> str:
    assert body["type"] == "error"
    assert body["request_id"]
    assert set(body["error"]) == {"type", "message"}
    return str(body["error"]["message"])


def _find_ollama_message(body: Any) -> str:
    assert set(body) == {"error"}
    return str(body["error"])


def _find_service_message(body: Any) -> str:
    assert body["status"] == "error"
    assert body["response"] == body["error"]["message"]
    return str(body["response"])


def _find_routed_message(body: Any) -> str:
    assert body["success"] is False
    return str(body["error"])


def _find_problem_detail(body: Any) -> str:
    assert body["type"] == "about:blank"
    return str(body["detail"])


def _find_error_code(body: Any) -> str:
    return str(body["error"]["code"])


def _find_code(body: Any) -> str:
    return str(body["code"])


CHAT_ENDPOINTS = {
    "openai": ChatEndpoint("/v1/chat/completions", chat(), _find_openai_message, _find_error_code),
    "openai completions": ChatEndpoint(
        "/v1/completions", {"model": "m", "prompt": "hi"}, _find_openai_message, _find_error_code
    ),
    "openai responses": ChatEndpoint(
        "/v1/responses", {"model": "m", "input": "hi"}, _find_openai_message, _find_error_code
    ),
    "openai on ollama": ChatEndpoint("/v1/chat/completions", chat(), _find_openai_message, _find_error_code, "ollama"),
    "anthropic": ChatEndpoint("/v1/messages", chat(max_tokens=9), _find_anthropic_message),
    "ollama": ChatEndpoint("/api/chat", chat(), _find_ollama_message, None, "ollama"),
    "ollama generate": ChatEndpoint(
        "/api/generate", {"model": "m", "prompt": "hi"}, _find_ollama_message, None, "ollama"
    ),
    "ollama on vllm": ChatEndpoint("/api/chat", chat(), _find_ollama_message),
    "service": ChatEndpoint("/chat", {"message": "hi", "model": "m"}, _find_service_message, _find_error_code),
    "distributed": ChatEndpoint("/api/v1/chat", {"message": "hi", "model": "m"}, _find_routed_message, _find_code),
    "agent": ChatEndpoint("/api/chat/send", {"content": "hi"}, _find_problem_detail, _find_code, "victoria"),
}


def _decode_last_data(answer: Answer) -> Any:
    return msgspec.json.decode(answer.data[-1])


def _find_openai_stream_error(answer: Answer) -> str:
    return _find_openai_message(_decode_last_data(answer))


def _find_responses_stream_error(answer: Answer) -> str:
    body = _decode_last_data(answer)
    assert body["type"] in ("error", "response.failed")
    return str(body.get("message") or body["response"]["error"]["message"])


def _find_anthropic_stream_error(answer: Answer) -> str:
    return _find_anthropic_message(_decode_last_data(answer) | {"request_id": "in the head"})


def _find_ollama_stream_error(answer: Answer) -> str:
    return str(answer.lines[-1]["error"])


def _find_agent_stream_error(answer: Answer) -> str:
    error, end = map(msgspec.json.decode, answer.data[-2:])
    assert end["status"] == "error"
    return str(error["message"])


@dataclass(frozen=True, slots=True)
class StreamingEndpoint:
    """An API that streams; `find_error` finds the message of the error that ends a broken stream."""

    path: str
    body: dict[str, Any]
    find_error: Callable[[Answer], str]
    kind: str = "vllm"

    @property
    def request(self) -> bytes:
        return post(self.path, self.body)


STREAMING_ENDPOINTS = {
    "openai": StreamingEndpoint("/v1/chat/completions", chat(stream=True), _find_openai_stream_error),
    "openai responses": StreamingEndpoint(
        "/v1/responses", {"model": "m", "input": "hi", "stream": True}, _find_responses_stream_error
    ),
    "openai on ollama": StreamingEndpoint(
        "/v1/chat/completions", chat(stream=True), _find_openai_stream_error, "ollama"
    ),
    "anthropic": StreamingEndpoint("/v1/messages", chat(stream=True, max_tokens=9), _find_anthropic_stream_error),
    "ollama": StreamingEndpoint("/api/chat", chat(stream=True), _find_ollama_stream_error, "ollama"),
    "ollama on vllm": StreamingEndpoint("/api/chat", chat(stream=True), _find_ollama_stream_error),
}
