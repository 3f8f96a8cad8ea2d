"""Every surface that answers chats: what to send to it, what kind of server answers, how it tells of an error."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from tests.support.raw_client import Answer, chat, post


@dataclass(frozen=True, slots=True)
class ChatEndpoint:
    """`find_message` finds an error's words in a body; `find_code` its code, where the dialect has codes."""

    path: str
    body: dict[str, Any]
    find_message: Callable[[Any], str]
    find_code: Callable[[Any], str] | None = None
    kind: str = "vllm"

    @property
    def request(self) -> bytes:
        return post(self.path, self.body)

    def check_error(self, answer: Answer, status: int, code: str) -> str:
        """Assert that an answer is this error in this dialect's shape; its words."""
        assert answer.status == status, answer
        told = answer.json
        if self.find_code is not None:
            assert self.find_code(told) == code, told
        message = self.find_message(told)
        assert isinstance(message, str)
        assert message
        return message


def _openai(told: Any) -> str:
    assert set(told) == {"error"}
    assert set(told["error"]) == {"message", "type", "param", "code"}
    return str(told["error"]["message"])


def _anthropic(told: Any) -> str:
    assert told["type"] == "error"
    assert told["request_id"]
    assert set(told["error"]) == {"type", "message"}
    return str(told["error"]["message"])


def _ollama(told: Any) -> str:
    assert set(told) == {"error"}
    return str(told["error"])


def _service(told: Any) -> str:
    assert told["status"] == "error"
    assert told["response"] == told["error"]["message"]
    return str(told["response"])


def _distributed(told: Any) -> str:
    assert told["success"] is False
    return str(told["error"])


def _problem(told: Any) -> str:
    assert told["type"] == "about:blank"
    return str(told["detail"])


def _error_code(told: Any) -> str:
    return str(told["error"]["code"])


def _code(told: Any) -> str:
    return str(told["code"])


CHAT_ENDPOINTS = {
    "openai": ChatEndpoint("/v1/chat/completions", chat(), _openai, _error_code),
    "openai completions": ChatEndpoint("/v1/completions", {"model": "m", "prompt": "hi"}, _openai, _error_code),
    "openai responses": ChatEndpoint("/v1/responses", {"model": "m", "input": "hi"}, _openai, _error_code),
    "openai on ollama": ChatEndpoint("/v1/chat/completions", chat(), _openai, _error_code, "ollama"),
    "anthropic": ChatEndpoint("/v1/messages", chat(max_tokens=9), _anthropic),
    "ollama": ChatEndpoint("/api/chat", chat(), _ollama, None, "ollama"),
    "ollama generate": ChatEndpoint("/api/generate", {"model": "m", "prompt": "hi"}, _ollama, None, "ollama"),
    "ollama on vllm": ChatEndpoint("/api/chat", chat(), _ollama),
    "service": ChatEndpoint("/chat", {"message": "hi", "model": "m"}, _service, _error_code),
    "distributed": ChatEndpoint("/api/v1/chat", {"message": "hi", "model": "m"}, _distributed, _code),
    "agent": ChatEndpoint("/api/chat/send", {"content": "hi"}, _problem, _code, "victoria"),
}


def _last_data(answer: Answer) -> Any:
    return msgspec.json.decode(answer.data[-1])


def _openai_event(answer: Answer) -> str:
    return _openai(_last_data(answer))


def _responses_event(answer: Answer) -> str:
    told = _last_data(answer)
    assert told["type"] in ("error", "response.failed")
    return str(told.get("message") or told["response"]["error"]["message"])


def _anthropic_event(answer: Answer) -> str:
    return _anthropic(_last_data(answer) | {"request_id": "in the head"})


def _ollama_line(answer: Answer) -> str:
    return str(answer.lines[-1]["error"])


def _agent_events(answer: Answer) -> str:
    error, end = map(msgspec.json.decode, answer.data[-2:])
    assert end["status"] == "error"
    return str(error["message"])


@dataclass(frozen=True, slots=True)
class StreamingEndpoint:
    """A surface that streams; `find_error` finds the words of the error that ends a broken stream."""

    path: str
    body: dict[str, Any]
    find_error: Callable[[Answer], str]
    kind: str = "vllm"

    @property
    def request(self) -> bytes:
        return post(self.path, self.body)


STREAMING_ENDPOINTS = {
    "openai": StreamingEndpoint("/v1/chat/completions", chat(stream=True), _openai_event),
    "openai responses": StreamingEndpoint(
        "/v1/responses", {"model": "m", "input": "hi", "stream": True}, _responses_event
    ),
    "openai on ollama": StreamingEndpoint("/v1/chat/completions", chat(stream=True), _openai_event, "ollama"),
    "anthropic": StreamingEndpoint("/v1/messages", chat(stream=True, max_tokens=9), _anthropic_event),
    "ollama": StreamingEndpoint("/api/chat", chat(stream=True), _ollama_line, "ollama"),
    "ollama on vllm": StreamingEndpoint("/api/chat", chat(stream=True), _ollama_line),
}
