"""A gateway in front of each engine, real ones first: the targets of every official client."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import httpx
import pytest

from penstock.sim import SimOptions, Simulator
from tests.support.gateway_process import ASK, Gateway, render_settings, run_gateway_process
from tests.support.real_engines import SENTENCE, Running
from tests.support.simulators import SIM_TEXT, Simulators

EMBEDDER: Final = "nomic-embed-text"


@dataclass(frozen=True, slots=True)
class Target:
    """An engine behind a gateway of its own.

    `text` is its answer to ASK when asked directly. `title` is its name in messages.
    """

    gateway: Gateway
    direct: str
    model: str
    text: str
    title: str

    @property
    def url(self) -> str:
        return self.gateway.url


@pytest.fixture(scope="session")
def sim_ollama(simulators: Simulators) -> Simulator:
    return simulators.start(SimOptions.instant("ollama", "llama3.1:8b", EMBEDDER, text=SIM_TEXT))


@pytest.fixture(scope="session")
def sim_mlx(simulators: Simulators) -> Simulator:
    return simulators.start(SimOptions.instant("mlx", "mlx-community/Qwen2.5-7B-Instruct-4bit", text=SIM_TEXT))


@pytest.fixture(scope="session")
def sim_victoria(simulators: Simulators) -> Simulator:
    return simulators.start(SimOptions.instant("victoria", text=SIM_TEXT))


@pytest.fixture(scope="session")
def sim_vllm_embeddings(simulators: Simulators) -> Simulator:
    return simulators.start(SimOptions.instant("vllm", "BAAI/bge-m3"))


def _run_gateway_for(kind: str, name: str, folders: pytest.TempPathFactory, *urls: str) -> Iterator[Gateway]:
    with run_gateway_process(folders.mktemp(name), render_settings(kind, *urls)) as running:
        yield running


def ask_openai(url: str, model: str) -> str:
    """Return what an engine that speaks OpenAI's API answers to ASK."""
    body = {"model": model, "messages": [{"role": "user", "content": ASK}], "temperature": 0}
    answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60, trust_env=False).raise_for_status().json()
    text: str = answer["choices"][0]["message"]["content"]
    return text


@pytest.fixture(scope="session")
def llamacpp(llama_a: Running, llama_b: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    for running in _run_gateway_for("llamacpp", "llamacpp", tmp_path_factory, llama_a.url, llama_b.url):
        text = ask_openai(llama_a.url, llama_a.model)
        assert text == ask_openai(llama_b.url, llama_b.model) == SENTENCE
        yield Target(running, llama_a.url, llama_a.model, text, "llama.cpp")


@pytest.fixture(scope="session")
def mlx_lm(mlx: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """`mlx_lm.server`, which is one of the servers that speak OpenAI's API."""
    for running in _run_gateway_for("openai", "mlx-lm", tmp_path_factory, mlx.url):
        text = ask_openai(mlx.url, mlx.model)
        assert text == SENTENCE
        yield Target(running, mlx.url, mlx.model, text, "OpenAI-compatible server")


@pytest.fixture(scope="session")
def vllm_cpu(vllm: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    for running in _run_gateway_for("vllm", "vllm", tmp_path_factory, vllm.url):
        text = ask_openai(vllm.url, vllm.model)
        assert text == SENTENCE
        yield Target(running, vllm.url, vllm.model, text, "vLLM")


@pytest.fixture(scope="session")
def ollama_sim(sim_ollama: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    settings = f"llm: {{providers: {{ollama: {{base_url: '{sim_ollama.url}'}}}}}}\n"
    with run_gateway_process(tmp_path_factory.mktemp("ollama"), settings) as running:
        body = {"model": "llama3.1:8b", "messages": [{"role": "user", "content": ASK}], "stream": False}
        text = httpx.post(f"{sim_ollama.url}/api/chat", json=body, trust_env=False).json()["message"]["content"]
        assert text == SIM_TEXT
        yield Target(running, sim_ollama.url, "llama3.1:8b", text, "Ollama")


@pytest.fixture(scope="session")
def mlx_sim(sim_mlx: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """The MLX API server."""
    settings = render_settings("mlx", sim_mlx.url)
    with run_gateway_process(tmp_path_factory.mktemp("mlx"), settings) as running:
        body = {"messages": [{"role": "user", "content": ASK}], "stream": False}
        text = httpx.post(f"{sim_mlx.url}/api/chat", json=body, trust_env=False).json()["message"]["content"]
        assert text == SIM_TEXT
        model = "mlx-community/Qwen2.5-7B-Instruct-4bit"
        yield Target(running, sim_mlx.url, model, text, "MLX API server")


@pytest.fixture(scope="session")
def victoria_sim(sim_victoria: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    settings = f"llm: {{providers: {{victoria: {{url: '{sim_victoria.url}'}}}}}}\n"
    with run_gateway_process(tmp_path_factory.mktemp("victoria"), settings) as running:
        text = httpx.post(f"{sim_victoria.url}/run", json={"goal": ASK}, trust_env=False).json()["output"]
        assert text == SIM_TEXT
        yield Target(running, sim_victoria.url, "victoria", text, "Victoria")


@pytest.fixture(scope="session")
def embedder(llama_embeddings: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """llama.cpp with a model that only embeds."""
    for running in _run_gateway_for("llamacpp", "embeddings", tmp_path_factory, llama_embeddings.url):
        yield Target(running, llama_embeddings.url, llama_embeddings.model, "", "llama.cpp")


@pytest.fixture(scope="session")
def away(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway whose only server, at 127.0.0.1:9, does not run."""
    yield from _run_gateway_for("llamacpp", "away", tmp_path_factory, "http://127.0.0.1:9")


CAN: Final = {
    "llamacpp": {"tools", "schema", "stop", "seed", "logprobs", "streamed logprobs", "completion", "length", "count"},
    "mlx_lm": {"tools", "seed", "logprobs", "completion", "length"},  # at a stop sequence it only stops sending
    "vllm_cpu": {"tools", "schema", "stop", "seed", "logprobs", "streamed logprobs", "completion", "length", "count"},
    "ollama_sim": {"tools", "schema", "stop", "seed", "logprobs", "streamed logprobs", "completion", "length"},
    "mlx_sim": {"completion"},
    "victoria_sim": {"seed"},
}
"""Abilities of each engine beside answering; `length`: it reports that a token limit ended the response."""
REAL: Final = {"llamacpp": "llamacpp", "mlx_lm": "mlx", "vllm_cpu": "vllm"}


def targets(names: Iterable[str]) -> pytest.MarkDecorator:
    """Run a test on each of these engines."""
    marks = {name: [pytest.mark.engine(engine)] for name, engine in REAL.items()}
    return pytest.mark.parametrize(
        "target", [pytest.param(name, marks=marks.get(name, [])) for name in names], indirect=True
    )


def able_to(*abilities: str) -> pytest.MarkDecorator:
    """Run a test on each engine that can do all of these."""
    return targets(name for name, can in CAN.items() if can.issuperset(abilities))


every_engine: Final = targets(CAN)


@pytest.fixture
def target(request: pytest.FixtureRequest) -> Target:
    """The engine that a test's decorator names."""
    found: Target = request.getfixturevalue(request.param)
    return found
