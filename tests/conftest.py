"""Isolation of every test, and real model servers for a complete test run, each started when it is first needed."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support import real_engines
from tests.support.isolation import UsualPorts, isolate
from tests.support.real_engines import Running
from tests.support.simulators import Simulators

isolate()

# A slow machine is no failure. In CI the same examples each time: a red run means a change, not luck.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.register_profile("quick", deadline=None, max_examples=20)  # scripts/check
settings.load_profile("ci" if os.environ.get("CI") else "local")

# Names that must be there: where they are listed, a missing engine is a failure instead of a skip.
REQUIRED = frozenset(os.environ.get("PENSTOCK_TEST_REQUIRE", "").replace(",", " ").split())


@pytest.fixture(scope="session", autouse=True)
def empty_working_directory() -> Iterator[None]:
    """Run all tests in an empty folder: a `penstock.yaml` or `.env` of the checkout is not read."""
    before, folder = Path.cwd(), tempfile.mkdtemp(prefix="penstock-tests-")
    os.chdir(folder)
    yield
    os.chdir(before)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def usual_ports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UsualPorts:
    """The usual ports of model servers, for one test and the processes that it starts from now on."""
    folder = tmp_path / "usual ports"
    folder.mkdir()
    monkeypatch.setenv("USUAL_PORTS_FOLDER", str(folder))
    return UsualPorts(folder)


def _run(engine: AbstractContextManager[Running], name: str) -> Iterator[Running]:
    try:
        running = engine.__enter__()
    except real_engines.NotInstalledError as error:
        if name in REQUIRED:
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
    try:
        yield running
    finally:
        engine.__exit__(None, None, None)


@pytest.fixture(scope="session")
def llama_a() -> Iterator[Running]:
    """One of two llama.cpp servers with the same model `tiny`, two slots each."""
    yield from _run(real_engines.llama_server(), "llamacpp")


@pytest.fixture(scope="session")
def llama_b() -> Iterator[Running]:
    """The other one of the two."""
    yield from _run(real_engines.llama_server(), "llamacpp")


@pytest.fixture(scope="session")
def llama_embeddings() -> Iterator[Running]:
    """A llama.cpp server whose model `tiny-embed` only embeds."""
    yield from _run(real_engines.llama_server(alias="tiny-embed", embeddings=True), "llamacpp")


@pytest.fixture(scope="session")
def mlx() -> Iterator[Running]:
    yield from _run(real_engines.mlx_server(), "mlx")


@pytest.fixture(scope="session")
def vllm() -> Iterator[Running]:
    yield from _run(real_engines.vllm_server(), "vllm")


@pytest.fixture(scope="session")
def simulators() -> Iterator[Simulators]:
    """Simulated engines that a test or a fixture starts."""
    running = Simulators()
    yield running
    running.close()
