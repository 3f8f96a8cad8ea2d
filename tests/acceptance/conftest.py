"""A gateway before each engine there is, real ones first: what every official client is tried against."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import httpx
import pytest

from penstock.sim import SimOptions, Simulator
from tests.support.gateway_process import ASK, Gateway, configured, gateway
from tests.support.real_engines import SENTENCE, Running
from tests.support.simulators import SAID, Simulators

EMBEDDER: Final = "nomic-embed-text"


@dataclass(frozen=True, slots=True)
class Target:
    """An engine behind a gateway of its own.

    `text` is what it says to ASK when asked directly. `title` is its name in messages.
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
    return simulators.start(SimOptions.instant("ollama", "llama3.1:8b", EMBEDDER, text=SAID))


@pytest.fixture(scope="session")
def sim_mlx(simulators: Simulators) -> Simulator:
    return simulators.start(SimOptions.instant("mlx", "mlx-community/Qwen2.5-7B-Instruct-4bit", text=SAID))


@pytest.fixture(scope="session")
def sim_victoria(simulators: Simulators) -> Simulator:
    return simulators.start(SimOptions.instant("victoria", text=SAID))


@pytest.fixture(scope="session")
def sim_vllm_embeddings(simulators: Simulators) -> Simulator:
    return simulators.start(SimOptions.instant("vllm", "BAAI/bge-m3"))


def _gateway_to(kind: str, name: str, folders: pytest.TempPathFactory, *urls: str) -> Iterator[Gateway]:
    with gateway(folders.mktemp(name), configured(kind, *urls)) as running:
        yield running


def say_openai(url: str, model: str) -> str:
    """What an engine that speaks OpenAI's API says to ASK."""
    body = {"model": model, "messages": [{"role": "user", "content": ASK}], "temperature": 0}
    answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60, trust_env=False).raise_for_status().json()
    text: str = answer["choices"][0]["message"]["content"]
    return text


@pytest.fixture(scope="session")
def llamacpp(llama_a: Running, llama_b: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    for running in _gateway_to("llamacpp", "llamacpp", tmp_path_factory, llama_a.url, llama_b.url):
        text = say_openai(llama_a.url, llama_a.model)
        assert text == say_openai(llama_b.url, llama_b.model) == SENTENCE
        yield Target(running, llama_a.url, llama_a.model, text, "llama.cpp")


@pytest.fixture(scope="session")
def mlx_lm(mlx: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """`mlx_lm.server`, which is one of the servers that speak OpenAI's API."""
    for running in _gateway_to("openai", "mlx-lm", tmp_path_factory, mlx.url):
        text = say_openai(mlx.url, mlx.model)
        assert text == SENTENCE
        yield Target(running, mlx.url, mlx.model, text, "OpenAI-compatible server")


@pytest.fixture(scope="session")
def vllm_cpu(vllm: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    for running in _gateway_to("vllm", "vllm", tmp_path_factory, vllm.url):
        text = say_openai(vllm.url, vllm.model)
        assert text == SENTENCE
        yield Target(running, vllm.url, vllm.model, text, "vLLM")


@pytest.fixture(scope="session")
def ollama_sim(sim_ollama: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    settings = f"llm: {{providers: {{ollama: {{base_url: '{sim_ollama.url}'}}}}}}\n"
    with gateway(tmp_path_factory.mktemp("ollama"), settings) as running:
        body = {"model": "llama3.1:8b", "messages": [{"role": "user", "content": ASK}], "stream": False}
        text = httpx.post(f"{sim_ollama.url}/api/chat", json=body, trust_env=False).json()["message"]["content"]
        assert text == SAID
        yield Target(running, sim_ollama.url, "llama3.1:8b", text, "Ollama")


@pytest.fixture(scope="session")
def mlx_sim(sim_mlx: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """The MLX API server."""
    settings = configured("mlx", sim_mlx.url)
    with gateway(tmp_path_factory.mktemp("mlx"), settings) as running:
        body = {"messages": [{"role": "user", "content": ASK}], "stream": False}
        text = httpx.post(f"{sim_mlx.url}/api/chat", json=body, trust_env=False).json()["message"]["content"]
        assert text == SAID
        model = "mlx-community/Qwen2.5-7B-Instruct-4bit"
        yield Target(running, sim_mlx.url, model, text, "MLX API server")


@pytest.fixture(scope="session")
def victoria_sim(sim_victoria: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    settings = f"llm: {{providers: {{victoria: {{url: '{sim_victoria.url}'}}}}}}\n"
    with gateway(tmp_path_factory.mktemp("victoria"), settings) as running:
        text = httpx.post(f"{sim_victoria.url}/run", json={"goal": ASK}, trust_env=False).json()["output"]
        assert text == SAID
        yield Target(running, sim_victoria.url, "victoria", text, "Victoria")


@pytest.fixture(scope="session")
def embedder(llama_embeddings: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """llama.cpp with a model that only embeds."""
    for running in _gateway_to("llamacpp", "embeddings", tmp_path_factory, llama_embeddings.url):
        yield Target(running, llama_embeddings.url, llama_embeddings.model, "", "llama.cpp")


@pytest.fixture(scope="session")
def away(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway whose only server, at 127.0.0.1:9, is not there."""
    yield from _gateway_to("llamacpp", "away", tmp_path_factory, "http://127.0.0.1:9")


CAN: Final = {
    "llamacpp": {"tools", "schema", "stop", "seed", "logprobs", "streamed logprobs", "completion", "length", "count"},
    "mlx_lm": {"tools", "seed", "logprobs", "completion", "length"},  # at a stop word it is only silent
    "vllm_cpu": {"tools", "schema", "stop", "seed", "logprobs", "streamed logprobs", "completion", "length", "count"},
    "ollama_sim": {"tools", "schema", "stop", "seed", "logprobs", "streamed logprobs", "completion", "length"},
    "mlx_sim": {"completion"},
    "victoria_sim": {"seed"},
}
"""What each engine is known to be able to do beside answering; `length`: tells that a limit of tokens has cut it."""
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
