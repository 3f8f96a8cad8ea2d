"""Every surface that answers chats: what to send to it, what kind of server answers, how it tells of an error."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from tests.support.raw_client import Answer, chat, post


@dataclass(frozen=True, slots=True)
class Surface:
    """`message` finds an error's words in a body; `code` its code, where the dialect has codes."""

    path: str
    body: dict[str, Any]
    message: Callable[[Any], str]
    code: Callable[[Any], str] | None = None
    kind: str = "vllm"

    @property
    def request(self) -> bytes:
        return post(self.path, self.body)

    def says(self, answer: Answer, status: int, code: str) -> str:
        """Assert that an answer is this error in this dialect's shape; its words."""
        assert answer.status == status, answer
        told = answer.json
        if self.code is not None:
            assert self.code(told) == code, told
        message = self.message(told)
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


SURFACES = {
    "openai": Surface("/v1/chat/completions", chat(), _openai, _error_code),
    "openai completions": Surface("/v1/completions", {"model": "m", "prompt": "hi"}, _openai, _error_code),
    "openai responses": Surface("/v1/responses", {"model": "m", "input": "hi"}, _openai, _error_code),
    "openai on ollama": Surface("/v1/chat/completions", chat(), _openai, _error_code, "ollama"),
    "anthropic": Surface("/v1/messages", chat(max_tokens=9), _anthropic),
    "ollama": Surface("/api/chat", chat(), _ollama, None, "ollama"),
    "ollama generate": Surface("/api/generate", {"model": "m", "prompt": "hi"}, _ollama, None, "ollama"),
    "ollama on vllm": Surface("/api/chat", chat(), _ollama),
    "service": Surface("/chat", {"message": "hi", "model": "m"}, _service, _error_code),
    "distributed": Surface("/api/v1/chat", {"message": "hi", "model": "m"}, _distributed, _code),
    "agent": Surface("/api/chat/send", {"content": "hi"}, _problem, _code, "victoria"),
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
class StreamSurface:
    """A surface that streams; `error` finds the words of the error that ends a broken stream."""

    path: str
    body: dict[str, Any]
    error: Callable[[Answer], str]
    kind: str = "vllm"

    @property
    def request(self) -> bytes:
        return post(self.path, self.body)


STREAMS = {
    "openai": StreamSurface("/v1/chat/completions", chat(stream=True), _openai_event),
    "openai responses": StreamSurface("/v1/responses", {"model": "m", "input": "hi", "stream": True}, _responses_event),
    "openai on ollama": StreamSurface("/v1/chat/completions", chat(stream=True), _openai_event, "ollama"),
    "anthropic": StreamSurface("/v1/messages", chat(stream=True, max_tokens=9), _anthropic_event),
    "ollama": StreamSurface("/api/chat", chat(stream=True), _ollama_line, "ollama"),
    "ollama on vllm": StreamSurface("/api/chat", chat(stream=True), _ollama_line),
}
