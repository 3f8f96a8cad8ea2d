"""Reload of settings by a running gateway: no stream is dropped, and invalid settings are rejected."""

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from penstock.sim import SimOptions, Simulator
from tests.support.gateway_process import ASK, Gateway, build_environment, run_gateway_process, wait_until
from tests.support.real_engines import SENTENCE, Running
from tests.support.simulators import SIM_TEXT, Simulators

MESSAGES: Final = [{"role": "user", "content": ASK}]
SLOW: Final = {"model": "llama3.1:8b", "messages": MESSAGES}


@pytest.fixture(scope="module")
def slow(simulators: Simulators) -> Iterator[Simulator]:
    """An Ollama that needs about three seconds for a response."""
    options = replace(SimOptions.instant("ollama", "llama3.1:8b", text=SIM_TEXT), tokens_per_second=8.0)
    running = simulators.start(options)
    yield running
    simulators.stop(running)


@pytest.fixture(scope="module")
def other(simulators: Simulators) -> Iterator[Simulator]:
    running = simulators.start(SimOptions.instant("ollama", "gemma3:1b", text=SIM_TEXT))
    yield running
    simulators.stop(running)


def fleet(first: Simulator, *more: Simulator) -> str:
    others = ", ".join(f"{{name: other{number}, url: '{one.url}'}}" for number, one in enumerate(more, 1))
    return f"llm: {{providers: {{ollama: {{base_url: '{first.url}', additional_servers: [{others}]}}}}}}\n"


async def stream_pieces(response: httpx.Response) -> AsyncIterator[str]:
    """Yield the text of an Ollama stream in pieces; check that the stream ends correctly."""
    line: dict[str, Any] = {}
    async for raw in response.aiter_lines():
        line = json.loads(raw)
        yield line["message"]["content"]
    assert line["done_reason"] == "stop"


def by_signal(running: Gateway) -> str:
    running.process.send_signal(signal.SIGHUP)
    return "Settings reloaded (SIGHUP)"


def by_command(running: Gateway) -> str:
    command = [sys.executable, "-m", "penstock", "reload"]
    done = subprocess.run(
        command, cwd=running.folder, env=build_environment(running.folder), capture_output=True, text=True, check=True
    )
    assert str(running.process.pid) in done.stdout
    return "Settings reloaded (SIGHUP)"


def by_the_file_alone(running: Gateway) -> str:
    return "Settings reloaded (the file changed)"


@pytest.mark.parametrize("reload", [by_signal, by_command, by_the_file_alone])
async def test_a_server_joins_without_a_running_stream_being_dropped(
    slow: Simulator, other: Simulator, tmp_path: Path, reload: Callable[[Gateway], str]
) -> None:
    with run_gateway_process(tmp_path / "gateway", fleet(slow)) as running:
        async with (
            httpx.AsyncClient(base_url=running.url, trust_env=False, timeout=30) as client,
            client.stream("POST", "/api/chat", json=SLOW) as stream,
        ):
            pieces = stream_pieces(stream)
            received = [await anext(pieces)]
            assert "other1" not in running.list_servers()
            running.settings.write_text(fleet(slow, other), encoding="utf-8")
            running.wait_for_line(reload(running))
            running.wait_for_line(f"Server other1 ({other.url}): 1 model")
            body = {"model": "gemma3:1b", "messages": MESSAGES, "stream": False}
            assert (await client.post("/api/chat", json=body)).json()["message"]["content"] == SIM_TEXT
            received += [piece async for piece in pieces]
        assert "".join(received) == SIM_TEXT


async def test_the_stream_of_a_removed_server_completes(slow: Simulator, other: Simulator, tmp_path: Path) -> None:
    with run_gateway_process(tmp_path / "gateway", fleet(slow)) as running:
        async with (
            httpx.AsyncClient(base_url=running.url, trust_env=False, timeout=30) as client,
            client.stream("POST", "/api/chat", json=SLOW) as stream,
        ):
            pieces = stream_pieces(stream)
            received = [await anext(pieces)]
            running.settings.write_text(fleet(other), encoding="utf-8")
            running.wait_for_line(by_signal(running))
            running.wait_for_line(f"Server primary ({other.url}): 1 model")
            assert (await client.post("/api/chat", json=SLOW)).status_code == 404
            received += [piece async for piece in pieces]
        assert "".join(received) == SIM_TEXT


def test_a_bad_file_is_refused_and_the_old_settings_stay(slow: Simulator, other: Simulator, tmp_path: Path) -> None:
    with run_gateway_process(tmp_path / "gateway", fleet(slow)) as running:
        running.settings.write_text(fleet(slow, other).replace("additional_servers", "aditional_servers"), "utf-8")
        running.wait_for_line("Settings not reloaded")
        assert "additional_servers" in running.read_log()  # the nearest name there is
        assert "penstock.yaml:1" in running.read_log()
        assert list(running.list_servers()) == ["primary"]
        assert running.get("/health").status_code == 200
        running.settings.write_text("llm: [", encoding="utf-8")
        wait_until(lambda: running.read_log().count("Settings not reloaded") == 2, 10, "a broken file is not noticed")
        running.settings.write_text(fleet(slow, other), encoding="utf-8")
        running.wait_for_line("Settings reloaded")
        wait_until(lambda: set(running.list_servers()) == {"primary", "other1"}, 5, "the mended file is not taken")


@pytest.mark.engine("llamacpp")
def test_the_log_reports_each_server_and_a_summary(llama_a: Running, slow: Simulator, tmp_path: Path) -> None:
    settings = "llm: {providers: {" + ", ".join(
        (
            f"ollama: {{base_url: '{slow.url}', additional_servers: [{{name: away, url: 'http://127.0.0.1:9'}}]}}",
            f"llamacpp: {{url: '{llama_a.url}'}}",
        )
    )
    with run_gateway_process(tmp_path / "gateway", settings + "}}\n") as running:
        log = running.read_log()
        assert "Discovering Ollama, llama.cpp servers and models..." in log
        for name, url in (("primary", slow.url), ("llamacpp", llama_a.url)):
            assert re.search(rf"INFO - Server {name} \({re.escape(url)}\): 1 model, \d+ms\n", log)
        assert re.search(r"WARNING - Server away \(http://127\.0\.0\.1:9\) does not answer: .*refused. Check that", log)
        assert "penstock.yaml:1" in log
        assert "Discovery complete: 2/3 servers available, 2 unique models" in log
        assert running.post("/chat", {"message": ASK, "model": "tiny"}).json()["response"] == SENTENCE
        running.wait_for_line("Distributed routing: tiny @ llamacpp (fallback: False)")


def test_a_log_of_json_lines_has_the_same_in_fields(slow: Simulator, tmp_path: Path) -> None:
    variables = {"PENSTOCK_LOG_FORMAT": "json"}
    with run_gateway_process(tmp_path / "gateway", fleet(slow), variables=variables) as running:
        lines = [json.loads(line) for line in running.read_log().splitlines()]
    assert any("Discovery complete: 1/1" in line["message"] for line in lines)
    assert all({"time", "level", "message"} <= line.keys() for line in lines)


async def test_a_gateway_that_is_stopped_completes_its_streams_and_exits_cleanly(
    slow: Simulator, tmp_path: Path
) -> None:
    with run_gateway_process(tmp_path / "gateway", fleet(slow)) as running:
        async with (
            httpx.AsyncClient(base_url=running.url, trust_env=False, timeout=30) as client,
            client.stream("POST", "/api/chat", json=SLOW) as stream,
        ):
            pieces = stream_pieces(stream)
            received = [await anext(pieces)]
            running.process.send_signal(signal.SIGTERM)
            received += [piece async for piece in pieces]
        assert "".join(received) == SIM_TEXT
        assert await asyncio.to_thread(running.process.wait, 10) == 0
