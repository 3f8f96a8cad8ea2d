"""Measurement of one gateway in front of the stand-in: its resources and the latency of its clients."""

import json
import re
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from gateways import OLLAMA_CHAT, Gateway
from load import Load, LoadResult
from process import BenchmarkError, ProcessTree, find_free_port, run_process, run_standin
from standin import TOKEN

TOKENS, GAP_MS = 100, 20
START_TIMEOUT = 90.0
MESSAGES = [
    {"role": "system", "content": "You answer in one short sentence."},
    {"role": "user", "content": "What does a gateway in front of model servers do all day?"},
]
WRK = """
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer sk-bench"
wrk.body = [[{body}]]
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """Measurements of one gateway in one round."""

    request_us: float
    """CPU time of the process tree per plain request, in microseconds."""
    chunk_us: float
    """CPU time per streamed event, in microseconds."""
    per_second: float
    """Plain requests at 32 connections."""
    first_p50: float
    """Milliseconds to the first chunk, 256 streams at once."""
    first_p99: float
    gap_p99: float
    """Milliseconds between two chunks of a stream."""
    paced_p50: float
    """Milliseconds of a plain request at 500 a second, open loop."""
    paced_p99: float
    start_s: float
    """From the command to the first good response."""
    idle_mb: float
    loaded_mb: float
    bad: dict[str, int] = field(default_factory=dict)
    """Numbers of failed responses by reason."""


def build_body(path: str, *, stream: bool, tokens: int = TOKENS, gap_ms: int = GAP_MS) -> bytes:
    """Build a chat request; token limit and seed tell the stand-in what to stream."""
    request: dict[str, object] = {"model": "m", "messages": MESSAGES}
    if path == OLLAMA_CHAT:
        request["stream"] = stream
        options: dict[str, object] = {"options": {"num_predict": tokens, "seed": gap_ms}}
    else:
        options = {"stream": True, "max_tokens": tokens, "seed": gap_ms}
    return json.dumps(request | (options if stream else {})).encode()


def wait_for_response(url: str, request: bytes, tree: ProcessTree) -> float:
    """Send requests until a good response; return the elapsed seconds. Raises BenchmarkError if none comes."""
    start = time.perf_counter()
    problem = "no connection"
    while (elapsed := time.perf_counter() - start) < START_TIMEOUT:
        if tree.process.poll() is not None:
            raise BenchmarkError(f"it ended with exit code {tree.process.returncode}: {tree.last_output()}")
        try:
            send_request(url, request)
            return time.perf_counter() - start
        except urllib.error.HTTPError as error:
            problem = f"status {error.code}: {error.read(300).decode('utf-8', 'replace')}"
        except OSError as error:
            problem = str(error)
        time.sleep(0.01 if elapsed < 2 else 0.1)
    raise BenchmarkError(f"no good response in {START_TIMEOUT:.0f} s ({problem}): {tree.last_output()}")


def send_request(url: str, request: bytes) -> bytes:
    """Send one request; return the body of the response."""
    headers = {"content-type": "application/json", "authorization": "Bearer sk-bench"}
    with urllib.request.urlopen(urllib.request.Request(url, request, headers), timeout=30) as response:
        data: bytes = response.read()
    return data


def check_stream(url: str, path: str) -> None:
    """Raise BenchmarkError if not every token arrives, because a comparison would be meaningless."""
    received = send_request(url, build_body(path, stream=True, gap_ms=1)).count(f'"{TOKEN}"'.encode())
    if received != TOKENS:
        raise BenchmarkError(f"of {TOKENS} streamed tokens {received} arrived")


def measure_gateway(gateway: Gateway, seconds: float) -> Figures:
    """Start a gateway, run three kinds of load and end it. Raises BenchmarkError."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, run_standin() as engines:
        folder, port = Path(name), find_free_port()
        url = f"http://127.0.0.1:{port}{gateway.path}"
        (plain := folder / "plain.json").write_bytes(build_body(gateway.path, stream=False))
        (streamed := folder / "streamed.json").write_bytes(build_body(gateway.path, stream=True))
        with run_process(gateway.build_command(folder, port, engines), folder, gateway.environment) as tree:
            start = wait_for_response(url, plain.read_bytes(), tree)
            check_stream(url, gateway.path)
            idle = tree.resident_mb()
            Load(url, plain, seconds=min(2.0, seconds)).run()
            before = tree.cpu_seconds()
            done, per_second, bad = run_wrk(url, plain, seconds)
            middle = tree.cpu_seconds()
            streams = Load(url, streamed, connections=256, seconds=seconds).run()
            after = tree.cpu_seconds()
            paced = Load(url, plain, connections=64, rate=500.0, seconds=seconds).run()
            return Figures(
                request_us=(middle - before) / max(1, done) * 1e6,
                chunk_us=(after - middle) / max(1, streams.good * (TOKENS + gateway.events)) * 1e6,
                per_second=per_second,
                first_p50=streams.first.p50,
                first_p99=streams.first.p99,
                gap_p99=streams.gap.p99,
                paced_p50=paced.total.p50,
                paced_p99=paced.total.p99,
                start_s=start,
                idle_mb=idle,
                loaded_mb=tree.resident_mb(),
                bad=_collect_failures(bad, streams, paced),
            )


def run_wrk(url: str, plain: Path, seconds: float) -> tuple[int, float, int]:
    """Send plain requests from 32 connections; return their number, requests per second and failures."""
    if shutil.which("wrk") is None:
        raise BenchmarkError("the load generator wrk is missing: apt-get install wrk")
    script = plain.with_suffix(".lua")
    script.write_text(WRK.format(body=plain.read_text()))
    command = ["wrk", "-t1", "-c32", f"-d{max(1, round(seconds))}s", "-s", str(script), url]
    process = subprocess.run(command, capture_output=True, text=True)
    output = process.stdout
    done = re.search(r"(\d+) requests in", output)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    if done is None or rate is None:
        raise BenchmarkError(f"the output of wrk is not as expected: {(output + process.stderr).strip()[-200:]}")
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    lost = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    failed = int(bad[1]) if bad else 0
    return int(done[1]), float(rate[1]), failed + (sum(int(number) for number in lost.groups()) if lost else 0)


def _collect_failures(plain: int, streams: LoadResult, paced: LoadResult) -> dict[str, int]:
    failures = {"plain: failed": plain} if plain else {}
    for name, loaded in (("streamed", streams), ("500 a second", paced)):
        failures |= {f"{name}: {reason}": count for reason, count in loaded.bad.items()}
    return failures
