"""Measures one gateway in front of the stand-in: what it spends, and what its clients wait."""

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
from load import Load, Loaded
from process import Tree, Trouble, free_port, standin, started
from standin import TOKEN

TOKENS, GAP_MS = 100, 20
PATIENCE = 90.0
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
    """Of one gateway in one round."""

    request_us: float
    """CPU of the process tree, microseconds a plain request."""
    chunk_us: float
    """The same, a streamed event."""
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
    """From the command to the first good answer."""
    idle_mb: float
    loaded_mb: float
    bad: dict[str, int] = field(default_factory=dict)
    """Answers that were not good, by what was wrong."""


def body(path: str, *, stream: bool, tokens: int = TOKENS, gap_ms: int = GAP_MS) -> bytes:
    """A chat request; what the stand-in should stream is said as limit and seed."""
    call: dict[str, object] = {"model": "m", "messages": MESSAGES}
    if path == OLLAMA_CHAT:
        call["stream"] = stream
        more: dict[str, object] = {"options": {"num_predict": tokens, "seed": gap_ms}}
    else:
        more = {"stream": True, "max_tokens": tokens, "seed": gap_ms}
    return json.dumps(call | (more if stream else {})).encode()


def first_answer(url: str, request: bytes, tree: Tree) -> float:
    """Ask until a good answer comes; returns seconds since now. Raises Trouble when the gateway ends or none comes."""
    begin = time.perf_counter()
    said = "no connection"
    while (spent := time.perf_counter() - begin) < PATIENCE:
        if tree.process.poll() is not None:
            raise Trouble(f"it ended with exit code {tree.process.returncode}: {tree.last_words()}")
        try:
            ask(url, request)
            return time.perf_counter() - begin
        except urllib.error.HTTPError as error:
            said = f"status {error.code}: {error.read(300).decode('utf-8', 'replace')}"
        except OSError as error:
            said = str(error)
        time.sleep(0.01 if spent < 2 else 0.1)
    raise Trouble(f"no good answer in {PATIENCE:.0f} s ({said}): {tree.last_words()}")


def ask(url: str, request: bytes) -> bytes:
    """One call; the answer's body."""
    headers = {"content-type": "application/json", "authorization": "Bearer sk-bench"}
    with urllib.request.urlopen(urllib.request.Request(url, request, headers), timeout=30) as answer:
        data: bytes = answer.read()
    return data


def check_stream(url: str, path: str) -> None:
    """Raises Trouble when not every token comes through, for then a comparison would mean nothing."""
    came = ask(url, body(path, stream=True, gap_ms=1)).count(f'"{TOKEN}"'.encode())
    if came != TOKENS:
        raise Trouble(f"of {TOKENS} streamed tokens {came} came through")


def measure(gateway: Gateway, seconds: float) -> Figures:
    """Start the gateway, load it in three ways, end it. Raises Trouble."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, standin() as engines:
        folder, port = Path(name), free_port()
        url = f"http://127.0.0.1:{port}{gateway.path}"
        (plain := folder / "plain.json").write_bytes(body(gateway.path, stream=False))
        (streamed := folder / "streamed.json").write_bytes(body(gateway.path, stream=True))
        with started(gateway.start(folder, port, engines), folder, gateway.environment) as tree:
            start = first_answer(url, plain.read_bytes(), tree)
            check_stream(url, gateway.path)
            idle = tree.resident()
            Load(url, plain, seconds=min(2.0, seconds)).run()
            before = tree.cpu()
            done, per_second, bad = wrk(url, plain, seconds)
            middle = tree.cpu()
            streams = Load(url, streamed, connections=256, seconds=seconds).run()
            after = tree.cpu()
            paced = Load(url, plain, connections=64, rate=500.0, seconds=seconds).run()
            return Figures(
                request_us=(middle - before) / max(1, done) * 1e6,
                chunk_us=(after - middle) / max(1, streams.good * (TOKENS + gateway.events)) * 1e6,
                per_second=per_second,
                first_p50=streams.first.p50,
                first_p99=streams.first.p99,
                gap_p99=streams.gap.p99,
                paced_p50=paced.whole.p50,
                paced_p99=paced.whole.p99,
                start_s=start,
                idle_mb=idle,
                loaded_mb=tree.resident(),
                bad=_bad(bad, streams, paced),
            )


def wrk(url: str, plain: Path, seconds: float) -> tuple[int, float, int]:
    """Plain requests from 32 connections: how many, how many a second, how many of them bad."""
    if shutil.which("wrk") is None:
        raise Trouble("the load generator wrk is missing: apt-get install wrk")
    script = plain.with_suffix(".lua")
    script.write_text(WRK.format(body=plain.read_text()))
    command = ["wrk", "-t1", "-c32", f"-d{max(1, round(seconds))}s", "-s", str(script), url]
    ran = subprocess.run(command, capture_output=True, text=True)
    said = ran.stdout
    done = re.search(r"(\d+) requests in", said)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    if done is None or rate is None:
        raise Trouble(f"wrk said something else than expected: {(said + ran.stderr).strip()[-200:]}")
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    lost = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
    failed = int(bad[1]) if bad else 0
    return int(done[1]), float(rate[1]), failed + (sum(int(number) for number in lost.groups()) if lost else 0)


def _bad(plain: int, streams: Loaded, paced: Loaded) -> dict[str, int]:
    found = {"plain: failed": plain} if plain else {}
    for name, loaded in (("streamed", streams), ("500 a second", paced)):
        found |= {f"{name}: {reason}": count for reason, count in loaded.bad.items()}
    return found
