"""Servers on the usual ports that answer like real ones, and log every connection.

    python -m tests.support.decoys --log FILE

They stand for servers that users run beside the tests: no test may reach them, so the log must stay empty.
Standard library only.
"""

import argparse
import contextlib
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

PORTS: Final = (1234, 8000, 8005, 8010, 8080, 11434, 11435, 30000)
MODEL: Final = "decoy:7b"
TEXT: Final = "This is a decoy."
OLLAMA_MODEL: Final = {"name": MODEL, "model": MODEL, "size": 1, "digest": "0" * 64, "details": {"family": "llama"}}
CHAT: Final = {"message": {"role": "assistant", "content": TEXT}, "choices": [{"message": {"content": TEXT}}]}
ANSWERS: Final[dict[str, Any]] = {
    "/health": {"status": "ok", "service": "Penstock", "agent": "Victoria"},
    "/status": {"status": "ok", "agent": "Victoria"},
    "/v1/models": {"object": "list", "data": [{"id": MODEL, "object": "model"}]},
    "/api/tags": {"models": [OLLAMA_MODEL]},
    "/api/ps": {"models": [OLLAMA_MODEL]},
    "/api/version": {"version": "0.33.0"},
    "/api/show": {"details": {"family": "llama"}, "model_info": {}, "capabilities": ["completion"]},
}


class _Decoy(ThreadingHTTPServer):
    """One port; each connection is logged, with or without a request."""

    daemon_threads = True

    def __init__(self, family: socket.AddressFamily, address: tuple[str, int], log: Path) -> None:
        self.address_family = family
        self._log = log
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.note("connected")
        super().process_request(request, client_address)

    def note(self, event: str) -> None:
        with self._log.open("a", encoding="utf-8") as log:
            log.write(f"{time.strftime('%H:%M:%S')} {self.server_address[1]} {event}\n")

    def handle_error(self, request: Any, client_address: Any) -> None:
        self.note(f"error: {sys.exc_info()[1]}")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Decoy

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._answer()

    do_HEAD = do_DELETE = do_PUT = do_GET

    def _answer(self) -> None:
        self.server.note(f"{self.command} {self.path} {self.headers.get('User-Agent', '')}".rstrip())
        body = json.dumps(ANSWERS.get(self.path.partition("?")[0], CHAT)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Print nothing; the decoy logs each request itself."""


@contextlib.contextmanager
def run_decoys(log: Path, ports: Sequence[int] = PORTS) -> Iterator[None]:
    """Answer on these ports of the loopback addresses. Raises OSError where a port is taken."""
    log.touch()
    with contextlib.ExitStack() as stack:
        for port in ports:
            for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
                try:
                    decoy = stack.enter_context(_Decoy(family, (host, port), log))
                except OSError:
                    if family == socket.AF_INET:
                        raise
                    continue  # no IPv6 here
                threading.Thread(target=decoy.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
                stack.callback(decoy.shutdown)
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("ports", nargs="*", type=int, default=list(PORTS))
    arguments = parser.parse_args()
    with run_decoys(arguments.log, arguments.ports):
        print(f"Decoys answer on {', '.join(map(str, arguments.ports))}; Ctrl-C ends them.", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
