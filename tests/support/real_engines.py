"""Real model servers on free loopback ports, as `scripts/model_servers/install.py` has installed them.

    with llama_server() as engine:
        ...  # engine.url answers; engine.text is what the model generates

All serve the same tiny model, which answers SENTENCE to everything, and a call of `get_weather` when the request has
tools and the last message is not a tool's result. It stops by itself; `ENDLESS` in a request makes it go on.
"""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

SENTENCE: Final = (
    "Hello from a real engine! Привет, мир; 世界 🙂 café — I am tiny yet each word here was made "
    "by this server one token at time. Bye"
)
TOOL_NAME: Final = "get_weather"
TOOL_ARGUMENTS: Final[Mapping[str, str]] = {"city": "Paris"}
# Further fields of an OpenAI-shaped request to llama.cpp: thousands of tokens, for a test that disconnects.
ENDLESS: Final[Mapping[str, object]] = {"ignore_eos": True, "max_tokens": 30_000}

ENGINES: Final = Path(os.environ.get("PENSTOCK_TEST_ENGINES_DIR") or Path(__file__).parents[2] / ".engines")
CONTEXT: Final = 32_768  # tokens a request may have on llama.cpp; vLLM reads VLLM_CONTEXT
VLLM_CONTEXT: Final = 2048
# Nothing is fetched, reported or written outside the test's own folder, and two cores are shared by all.
QUIET: Final[Mapping[str, str]] = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "OMP_NUM_THREADS": "2",
    "PYTHONDONTWRITEBYTECODE": "",  # set, it makes vLLM compile all its modules anew in each of its processes: 100 s
}


class NotInstalledError(Exception):
    """The engine is not in `.engines`; the message says why and how to change it."""


class Receipt(msgspec.Struct, frozen=True):
    """Command that starts an installed engine, from `<name>.json`."""

    version: str
    program: str
    environment: dict[str, str]


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers. It belongs to the `with` that started it; a test may kill or stop its process."""

    engine: str  # Penstock's kind: llamacpp, mlx, vllm
    version: str
    url: str  # http://127.0.0.1:<port>, no trailing slash
    port: int
    model: str
    process: subprocess.Popen[bytes]
    log: Path  # both of its outputs
    text: str = SENTENCE


def load_receipt(name: str) -> Receipt:
    """Return the receipt of an installed engine, or of `model`; raise NotInstalledError if it is absent or excluded."""
    if name == "vllm" and os.environ.get("PENSTOCK_TEST_SKIP_VLLM") == "1":
        raise NotInstalledError("vllm: PENSTOCK_TEST_SKIP_VLLM=1")
    try:
        return msgspec.json.decode((ENGINES / f"{name}.json").read_bytes(), type=Receipt)
    except FileNotFoundError:
        reason = ENGINES / f"{name}.reason"
        why = reason.read_text("utf-8").strip() if reason.exists() else "not installed"
        raise NotInstalledError(
            f"{name}: {why}; `python scripts/model_servers/install.py {name}` installs it"
        ) from None


@contextlib.contextmanager
def llama_server(
    *, alias: str = "tiny", slots: int = 2, port: int | None = None, embeddings: bool = False, extra: Sequence[str] = ()
) -> Iterator[Running]:
    """llama.cpp, ready in 0.1 s: `slots` calls at once of CONTEXT tokens each, or only embeddings (128 numbers each).

    `alias` is the model's name, or several with commas between; `extra` are further options of `llama-server`.
    """
    model = Path(load_receipt("model").program) / "tiny.gguf"
    size = 512 if embeddings else CONTEXT
    options = ["--model", str(model), "--alias", alias, "--parallel", str(slots), "--ctx-size", str(size * slots)]
    options += ["--threads", "1", "--metrics", "--offline", "--no-warmup"]
    if embeddings:
        options += ["--embeddings", "--pooling", "mean"]
    with _serve("llamacpp", [*options, *extra], alias.split(",")[0], port, patience=20) as running:
        yield running


@contextlib.contextmanager
def mlx_server(*, port: int | None = None, extra: Sequence[str] = ()) -> Iterator[Running]:
    """`mlx_lm.server`, ready in about 2 s. It knows its model by the folder's path, and as `default_model`."""
    model = load_receipt("model").program
    with _serve("mlx", ["--model", model, *extra], model, port, patience=60) as running:
        yield running


@contextlib.contextmanager
def vllm_server(*, port: int | None = None, extra: Sequence[str] = ()) -> Iterator[Running]:
    """VLLM on the CPU, with tools: 2 GB of memory and half a minute until it answers, so start one for many tests."""
    model = load_receipt("model").program
    options = ["serve", model, "--served-model-name", "tiny", "--dtype", "float32", "--enforce-eager"]
    options += ["--distributed-executor-backend", "uni"]
    options += ["--max-model-len", str(VLLM_CONTEXT), "--max-num-seqs", "8"]
    options += ["--enable-auto-tool-choice", "--tool-call-parser", "hermes"]
    with _serve("vllm", [*options, *extra], "tiny", port, patience=110) as running:
        yield running


def free_port() -> int:
    """Return a loopback port on which nothing listens now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def _serve(engine: str, options: Sequence[str], model: str, port: int | None, *, patience: float) -> Iterator[Running]:
    """Start an installed server, wait until `/health` answers 200, and end it and all its children afterwards."""
    receipt = load_receipt(engine)
    port = port or free_port()
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"penstock-{engine}-")))
        log = home / "log"
        process = stack.enter_context(
            _process(
                [receipt.program, *options, "--host", "127.0.0.1", "--port", str(port)],
                {**os.environ, **QUIET, **_folders(home), **receipt.environment},
                log,
            )
        )
        try:
            _wait_until_healthy(process, port, patience)
        except RuntimeError as error:
            raise RuntimeError(f"{engine} {error}\n{log.read_text('utf-8', 'replace')[-8000:]}") from None
        yield Running(
            engine=engine,
            version=receipt.version,
            url=f"http://127.0.0.1:{port}",
            port=port,
            model=model,
            process=process,
            log=log,
        )


def _folders(home: Path) -> dict[str, str]:
    """Return folders and settings for caches of servers; `mlx_lm.server` lists no models without the first."""
    (home / "hub").mkdir()
    return {
        "HF_HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "VLLM_CONFIG_ROOT": str(home / "config" / "vllm"),
        "VLLM_TARGET_DEVICE": "cpu",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # engine and worker in one process: it starts in two thirds of the time
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    }


@contextlib.contextmanager
def _process(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process in a group of its own; the group ends with this block, and with this process if that is killed."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    # Its standard input ends when this process does, however that happens.
    guard = subprocess.Popen(
        ["/bin/sh", "-c", f"read _; kill -9 -{process.pid}"], stdin=subprocess.PIPE, start_new_session=True
    )
    try:
        yield process
    finally:
        guard.kill()
        guard.communicate()
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask a server to stop, then end its process group; the process is reaped last, so that its id stays its own."""
    process.send_signal(signal.SIGCONT)
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=5)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _wait_until_healthy(process: subprocess.Popen[bytes], port: int, patience: float) -> None:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"ended with status {process.returncode} before it answered")
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            with contextlib.closing(connection):
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    return
        time.sleep(0.02)
    raise RuntimeError(f"did not answer within {patience:.0f} s")
