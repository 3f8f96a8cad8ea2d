"""The documented fleet of distributed routing, simulated: a GPU server, a laptop, and a gateway in front of them."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import httpx

from penstock.sim import SimOptions, Simulator, demo_servers
from tests.support.gateway_process import Gateway, run_gateway_process
from tests.support.simulators import Simulators

SIM_TEXT: Final = "Готово."
REMOTE: Final = ("llama3.3:70b", "gemma3:12b", "qwen2.5-coder:14b", "qwen3:14b")
LOCAL: Final = ("gemma3:1b", "qwen2.5:1.5b", "phi3:3b")
GREETING: Final = "Привет!"
EXPLANATION: Final = "Объясни паттерн Singleton"
SYSTEM: Final = "Напиши систему авторизации с JWT, refresh tokens и rate limiting"
WARNING: Final = "Используется упрощённая модель"


@dataclass(frozen=True, slots=True)
class Route:
    """Model and server that answer a text."""

    level: str
    model: str
    server: str
    task_type: str = ""


EXAMPLES: Final = {
    GREETING: Route("trivial", "gemma3:1b", "localhost", "chat"),
    EXPLANATION: Route("moderate", "gemma3:12b", "remote", "explanation"),
    SYSTEM: Route("complex", "qwen2.5-coder:14b", "remote", "code"),
}
"""The three examples of the document."""


def build_messages(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def build_bodies(text: str) -> dict[str, dict[str, Any]]:
    """Build one message for every API; the gateway selects the model."""
    auto = {"model": "auto", "messages": build_messages(text)}
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


SURFACES: Final = tuple(build_bodies(""))


def parse_route(answer: httpx.Response) -> Route:
    """Read the route from the headers of a successful response."""
    assert answer.status_code == 200, answer.text
    head = answer.headers
    return Route(head.get("x-penstock-complexity", ""), head["x-penstock-model"], head["x-penstock-server"])


def ask(running: Gateway, text: str, path: str = "/api/v1/chat", **more: Any) -> httpx.Response:
    """Send a text to one of the APIs; `more` goes into the body."""
    return running.post(path, build_bodies(text)[path] | more)


def route_text(running: Gateway, text: str, path: str = "/api/v1/chat") -> tuple[str, str]:
    """Return the model and server that answer a text."""
    found = parse_route(ask(running, text, path))
    return found.model, found.server


def render_fleet_settings(urls: Mapping[str, tuple[str, str]], more: str = "", **ollama: object) -> str:
    """Render a settings file: servers by name, each an address and a priority; further keys of the provider."""
    keys = {"enabled": "true", "distributed_mode": "true", "auto_discover": "false"}
    keys |= {key: str(value) for key, value in ollama.items()}
    servers = "".join(
        f'        - {{name: {name}, url: "{url}", priority: {priority}}}\n' for name, (url, priority) in urls.items()
    )
    options = "".join(f"      {key}: {value}\n" for key, value in keys.items())
    return f"llm:\n  providers:\n    ollama:\n{options}      additional_servers:\n{servers}{more}"


@dataclass(frozen=True, slots=True)
class Fleet:
    """The two servers."""

    remote: Simulator
    local: Simulator

    @property
    def settings(self) -> str:
        return render_fleet_settings(
            {"remote": (self.remote.url, "PRIMARY"), "localhost": (self.local.url, "SECONDARY")}
        )


def instant_ollama(*models: str, slots: int = 2) -> SimOptions:
    """Return the options of an Ollama without delay that has room for all of its models."""
    return replace(SimOptions.instant("ollama", *models, text=SIM_TEXT, slots=slots), max_loaded=len(models))


@contextlib.contextmanager
def run_fleet(simulators: Simulators, *, paced: bool = False) -> Iterator[Fleet]:
    """Run the servers; `paced`: with the speeds of such machines, else without delay."""
    options = (instant_ollama(*REMOTE), instant_ollama(*LOCAL, slots=1))
    if paced:
        remote, local = demo_servers()
        options = (replace(remote, text=SIM_TEXT, prefix=""), replace(local, text=SIM_TEXT, prefix=""))
    running = [simulators.start(one) for one in options]
    try:
        yield Fleet(*running)
    finally:
        for simulator in running:
            with contextlib.suppress(ValueError):  # a test may have stopped it
                simulators.stop(simulator)


@contextlib.contextmanager
def run_distributed_gateway(
    simulators: Simulators, folder: Path, *, paced: bool = False
) -> Iterator[tuple[Gateway, Fleet]]:
    """Run a gateway in front of the two servers."""
    with run_fleet(simulators, paced=paced) as servers, run_gateway_process(folder, servers.settings) as running:
        yield running, servers
