"""The fuzzer: a gateway in a process between hostile clients and a hostile model server.

It watches that every request gets a response that is HTTP with a proper error or the connection is closed, that the
gateway itself never fails (500, or an internal error in any format), that nothing takes long, and that memory comes
back. A finding names its seed and number; `scripts/fuzz --seed S --first N --cases 1` repeats it.
"""

import asyncio
import contextlib
import json
import os
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.inputs import BODIES, create_hostile_response, create_request, frame_request
from tests.support.gateway_process import render_settings, run_gateway_process
from tests.support.raw_engine import RawEngine, Turn, completion, response, stream

MAX_SECONDS = 30.0
MAX_GROWTH_MB = 20.0
SETTLE_SECONDS = 10.0
_OWN_FAILURES = re.compile(rb"internal_error|failed with an internal error")
SILENCE_SECONDS = 1.0
"""Time after which a client sends no more."""
PARALLEL = 16
_GOOD_BODIES = {
    "/v1/embeddings": b'{"data":[{"embedding":[0.5],"index":0}],"usage":{"prompt_tokens":1,"total_tokens":1}}',
    "/tokenize": b'{"count":3,"tokens":[1,2,3],"max_model_len":8192}',
}
GOOD_MODEL = "m"
HOSTILE_SERVERS = 8
"""Breakers exclude hostile servers, so there are several, with a model each."""


@dataclass(slots=True)
class Report:
    """Result of a run: what was found, how often each status came, and the growth of memory in megabytes."""

    findings: list[str] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    growth: float = 0.0
    slowest: float = 0.0


class _ScriptedServer:
    """Model server with one model, whose responses are good, or hostile where it has a seed."""

    def __init__(self, model: str, seed: str = "") -> None:
        listing = {"object": "list", "data": [{"id": model, "object": "model", "max_model_len": 8192}]}
        self._listing = json.dumps(listing).encode()
        self._rng = random.Random(seed) if seed else None

    async def run(self, turn: Turn) -> None:
        if turn.request.method == "GET":
            await turn.send(response(self._listing if turn.request.path == "/v1/models" else b"{}"))
            return
        streamed = b'"stream":true' in turn.request.body.replace(b" ", b"")
        if self._rng is None:
            body = _GOOD_BODIES.get(turn.request.path)
            if body is None and streamed:
                await turn.send(stream("a", "b"))
            else:
                await turn.send(response(body or completion()))
            return
        await turn.send(create_hostile_response(self._rng, streamed))
        turn.close()


async def run_cases(folder: Path, seed: int, cases: int, first: int = 0) -> Report:
    """Run a number of cases, of which a third have a hostile model server."""
    report = Report()
    servers = [_ScriptedServer(GOOD_MODEL)]
    servers += [_ScriptedServer(f"hostile{n}", f"{seed}.{n}") for n in range(HOSTILE_SERVERS)]
    async with contextlib.AsyncExitStack() as stack:
        engines = [await stack.enter_async_context(RawEngine(server.run)) for server in servers]
        settings = render_settings("vllm", *(engine.url for engine in engines))
        process = run_gateway_process(folder / "gateway", settings)
        started = await asyncio.to_thread(process.__enter__)
        try:
            port, pid = int(started.url.rpartition(":")[2]), started.process.pid
            for route in BODIES:  # what is imported and cached at first use is no growth
                await _exchange(port, frame_request(route, json.dumps(BODIES[route]).encode()))
            before = measure_megabytes(pid)
            numbers = iter(range(first, first + cases))
            await asyncio.gather(*(_run_cases(port, seed, numbers, report) for _ in range(PARALLEL)))
            report.growth = await _measure_growth(pid, before)
        finally:
            await asyncio.to_thread(process.__exit__, None, None, None)
    if report.growth > MAX_GROWTH_MB:
        report.findings.append(f"memory grew by {report.growth:.0f} MB")
    return report


async def _run_cases(port: int, seed: int, numbers: Iterator[int], report: Report) -> None:
    for number in numbers:
        await _run_case(port, seed, number, report)


async def _run_case(port: int, seed: int, number: int, report: Report) -> None:
    rng = random.Random(f"{seed}.{number}")
    is_hostile = number % 3 == 0
    if is_hostile:
        route = rng.choice(list(BODIES))
        fields = {"model": f"hostile{number // 3 % HOSTILE_SERVERS}", "stream": rng.random() < 0.5}
        request = frame_request(route, json.dumps(BODIES[route] | fields).encode())
    else:
        request = create_request(rng)
    started = time.monotonic()
    try:
        answer = await asyncio.wait_for(_exchange(port, request), MAX_SECONDS)
    except TimeoutError:
        report.findings.append(f"{seed}.{number}: no end within {MAX_SECONDS:g} s: {request[:300]!r}")
        return
    report.slowest = max(report.slowest, time.monotonic() - started)
    status = _find_status(answer)
    report.statuses[status] += 1
    if problem := _find_problem(status, answer, is_hostile):
        report.findings.append(f"{seed}.{number}: {problem}: {request[:300]!r} -> {answer[-300:]!r}")


def _find_problem(status: int, answer: bytes, is_hostile: bool) -> str:
    """Return what is wrong with a response; "" if nothing is."""
    if answer and not status:
        return "not HTTP"
    if _OWN_FAILURES.search(answer):
        return "the gateway failed"
    if status >= 500 and not is_hostile and status not in (501, 505):
        return f"status {status} without a fault of the server"
    if not (status < 600):
        return f"status {status}"
    return ""


def _find_status(answer: bytes) -> int:
    found = re.match(rb"HTTP/1\.1 (\d{3}) ", answer)
    return int(found[1]) if found else 0


async def _exchange(port: int, request: bytes) -> bytes:
    """Send a request, then read until the gateway closes the connection or has been silent for a moment."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    parts = []
    try:
        writer.write(request)
        while True:
            try:
                data = await asyncio.wait_for(reader.read(1 << 16), SILENCE_SECONDS)
            except TimeoutError:  # an incomplete request: the gateway waits for the rest
                if writer.transport.is_closing() or not writer.can_write_eof():
                    break
                writer.write_eof()
                data = await reader.read(1 << 16)
            if not data:
                break
            parts.append(data)
    except ConnectionError:
        pass
    finally:
        writer.close()
    return b"".join(parts)


def measure_megabytes(process: int) -> float:
    """Return the resident memory of a process; 0 where the system does not tell."""
    if sys.platform != "linux":
        return 0.0
    return int(Path(f"/proc/{process}/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


async def _measure_growth(process: int, before: float) -> float:
    """Return how much memory has grown when it has had time to come back."""
    until = time.monotonic() + SETTLE_SECONDS
    growth = measure_megabytes(process) - before
    while growth > MAX_GROWTH_MB and time.monotonic() < until:
        await asyncio.sleep(0.2)
        growth = measure_megabytes(process) - before
    return growth
