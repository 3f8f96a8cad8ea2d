"""Distributed routing's fleet as its document has it, simulated: a GPU server, a laptop, and a gateway before them."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import httpx

from penstock.sim import SimOptions, Simulator, demo_servers
from tests.support.gateway_process import Gateway, gateway
from tests.support.simulators import Simulators

SAID: Final = "Готово."
REMOTE: Final = ("llama3.3:70b", "gemma3:12b", "qwen2.5-coder:14b", "qwen3:14b")
LOCAL: Final = ("gemma3:1b", "qwen2.5:1.5b", "phi3:3b")
GREETING: Final = "Привет!"
EXPLANATION: Final = "Объясни паттерн Singleton"
SYSTEM: Final = "Напиши систему авторизации с JWT, refresh tokens и rate limiting"
WARNING: Final = "Используется упрощённая модель"


@dataclass(frozen=True, slots=True)
class Route:
    """Where a text goes."""

    level: str
    model: str
    server: str
    task_type: str = ""


EXAMPLES: Final = {
    GREETING: Route("trivial", "gemma3:1b", "localhost", "chat"),
    EXPLANATION: Route("moderate", "gemma3:12b", "remote", "explanation"),
    SYSTEM: Route("complex", "qwen2.5-coder:14b", "remote", "code"),
}
"""The document's three."""


def messages(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def bodies(text: str) -> dict[str, dict[str, Any]]:
    """One message on every surface, its model left to the gateway."""
    auto = {"model": "auto", "messages": messages(text)}
    return {
        "/api/v1/chat": {"message": text},
        "/chat": {"message": text},
        "/v1/chat": {"message": text, "model": "auto"},
        "/v1/chat/completions": auto,
        "/v1/responses": {"model": "auto", "input": text},
        "/v1/completions": {"model": "auto", "prompt": text},
        "/api/chat": auto | {"stream": False},
        "/api/generate": {"model": "auto", "prompt": text, "stream": False},
        "/v1/messages": auto | {"max_tokens": 100},
    }


SURFACES: Final = tuple(bodies(""))


def route(answer: httpx.Response) -> Route:
    """Where a good answer says that it comes from."""
    assert answer.status_code == 200, answer.text
    head = answer.headers
    return Route(head.get("x-penstock-complexity", ""), head["x-penstock-model"], head["x-penstock-server"])


def ask(running: Gateway, text: str, path: str = "/api/v1/chat", **more: Any) -> httpx.Response:
    """Send a text to one of the surfaces; `more` goes into the body."""
    return running.post(path, bodies(text)[path] | more)


def goes(running: Gateway, text: str, path: str = "/api/v1/chat") -> tuple[str, str]:
    """The model and server that answer a text."""
    found = route(ask(running, text, path))
    return found.model, found.server


def written(urls: Mapping[str, tuple[str, str]], more: str = "", **ollama: object) -> str:
    """A settings file: servers by name, each an address and a priority; further keys of the provider."""
    keys = {"enabled": "true", "distributed_mode": "true", "auto_discover": "false"}
    keys |= {key: str(value) for key, value in ollama.items()}
    servers = "".join(
        f'        - {{name: {name}, url: "{url}", priority: {priority}}}\n' for name, (url, priority) in urls.items()
    )
    said = "".join(f"      {key}: {value}\n" for key, value in keys.items())
    return f"llm:\n  providers:\n    ollama:\n{said}      additional_servers:\n{servers}{more}"


@dataclass(frozen=True, slots=True)
class Fleet:
    """The two servers."""

    remote: Simulator
    local: Simulator

    @property
    def settings(self) -> str:
        return written({"remote": (self.remote.url, "PRIMARY"), "localhost": (self.local.url, "SECONDARY")})


def at_once(*models: str, slots: int = 2) -> SimOptions:
    """An Ollama that takes no time, with room for all of its models."""
    return replace(SimOptions.instant("ollama", *models, text=SAID, slots=slots), max_loaded=len(models))


@contextlib.contextmanager
def fleet(simulators: Simulators, *, paced: bool = False) -> Iterator[Fleet]:
    """The servers; `paced`: with the speeds of such machines, else without delay."""
    options = (at_once(*REMOTE), at_once(*LOCAL, slots=1))
    if paced:
        remote, local = demo_servers()
        options = (replace(remote, text=SAID, prefix=""), replace(local, text=SAID, prefix=""))
    running = [simulators.start(one) for one in options]
    try:
        yield Fleet(*running)
    finally:
        for simulator in running:
            with contextlib.suppress(ValueError):  # a test may have stopped it
                simulators.stop(simulator)


@contextlib.contextmanager
def routed(simulators: Simulators, folder: Path, *, paced: bool = False) -> Iterator[tuple[Gateway, Fleet]]:
    """A gateway before the two servers."""
    with fleet(simulators, paced=paced) as servers, gateway(folder, servers.settings) as running:
        yield running, servers
