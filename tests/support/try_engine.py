"""Start an installed model server as the tests do, and check that it generates what they expect.

    python -m tests.support.try_engine llamacpp

Exit code 1 with the reason when it does not. The set-up runs this after each installation.
"""

import http.client
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final

import msgspec

from tests.support.real_engines import SENTENCE, Running, llama_server, mlx_server, vllm_server

CHAT: Final = {"messages": [{"role": "user", "content": "Hello"}], "temperature": 0}


def start_llama_server() -> AbstractContextManager[Running]:
    """Start one server that chats and embeds: some builds crash when it does both."""
    return llama_server(extra=["--embeddings", "--pooling", "mean"])


SERVERS: Final[dict[str, Callable[[], AbstractContextManager[Running]]]] = {
    "llamacpp": start_llama_server,
    "mlx": mlx_server,
    "vllm": vllm_server,
}


def main(name: str) -> str:
    """Return what is wrong with a server, else an empty string."""
    try:
        with SERVERS[name]() as running:
            for path, fields in _list_requests(running):
                status, answer = _post(running, path, fields)
                problem = _find_problem(path, status, answer)
                if problem:
                    return problem
            if running.process.poll() is not None:
                return f"it ended with status {running.process.returncode}"
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return ""


def _list_requests(running: Running) -> list[tuple[str, dict[str, object]]]:
    requests: list[tuple[str, dict[str, object]]] = [("/v1/chat/completions", {**CHAT, "model": running.model})]
    if running.engine == "llamacpp":
        requests.append(("/v1/embeddings", {"model": running.model, "input": ["one", "two"]}))
        requests += requests[:1]
    return requests


def _post(running: Running, path: str, fields: dict[str, object]) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)
    try:
        connection.request("POST", path, msgspec.json.encode(fields), {"Content-Type": "application/json"})
        response = connection.getresponse()
        body = response.read()
        return response.status, msgspec.json.decode(body) if response.status == 200 else body
    finally:
        connection.close()


def _find_problem(path: str, status: int, answer: Any) -> str:
    if status != 200:
        return f"{path} answered {status}: {answer!r}"
    if path.endswith("embeddings"):
        sizes = [len(one["embedding"]) for one in answer["data"]]
        return "" if sizes == [128, 128] else f"{path} answered vectors of {sizes} numbers instead of 128"
    text = answer["choices"][0]["message"]["content"]
    return "" if text == SENTENCE else f"{path} answered {text!r} instead of {SENTENCE!r}"


if __name__ == "__main__":
    if problem := main(sys.argv[1]):
        sys.exit(f"error: {problem}")
