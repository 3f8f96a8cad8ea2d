"""Keep the tests away from model servers that run on this machine at their usual ports.

`install()` changes how this process opens TCP connections: to a usual port it is refused, as if nobody listened there,
or led to the port that a test has put in that place: the number in the file `$USUAL_PORTS_FOLDER/<usual port>`.
`sitecustomize.py` beside this file installs it in every Python process that a test starts. Standard library only.
"""

import errno
import functools
import importlib.abc
import importlib.machinery
import importlib.util
import os
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = "USUAL_PORTS_FOLDER"
# LM Studio, OpenAI-compatible servers, the gateway itself, Victoria, llama.cpp, Ollama, the MLX API server, SGLang.
USUAL_PORTS = frozenset({1234, 8000, 8005, 8010, 8080, 11434, 11435, 30000})
LOOPBACK = "127.0.0.1"


def install() -> None:
    """Guard this process; a second call does nothing."""
    if getattr(socket.socket.connect, "is_guarded", False):
        return
    for name in ("connect", "connect_ex"):
        setattr(socket.socket, name, _guard_connect(getattr(socket.socket, name), is_raising=name == "connect"))
    if "uvloop" in sys.modules:
        _guard_uvloop(sys.modules["uvloop"])
    else:
        sys.meta_path.insert(0, _UvloopFinder())


def find_port(port: int) -> int | None:
    """Return the port that stands for a usual port in this test, or None where nothing listens."""
    try:
        return int((Path(os.environ[FOLDER]) / str(port)).read_text("ascii"))
    except (KeyError, OSError, ValueError):
        return None


def _guard_connect(connect: Callable[..., Any], *, is_raising: bool) -> Callable[..., Any]:
    @functools.wraps(connect)
    def connect_guarded(self: socket.socket, address: Any) -> Any:
        is_internet = self.family in (socket.AF_INET, socket.AF_INET6) and self.type == socket.SOCK_STREAM
        if not is_internet or address[1] not in USUAL_PORTS:
            return connect(self, address)
        port = find_port(address[1]) if self.family == socket.AF_INET else None
        if port is not None:
            return connect(self, (LOOPBACK, port))
        if is_raising:
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        return errno.ECONNREFUSED

    connect_guarded.is_guarded = True  # type: ignore[attr-defined]
    return connect_guarded


def _guard_uvloop(uvloop: ModuleType) -> None:
    """Guard uvloop's own way to connect, which uses no Python socket."""
    create_connection = uvloop.Loop.create_connection

    @functools.wraps(create_connection)
    async def create_guarded(self: Any, factory: Any, host: Any = None, port: Any = None, **options: Any) -> Any:
        if port in USUAL_PORTS:
            port = find_port(port)
            if port is None:
                raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
            host = LOOPBACK
        return await create_connection(self, factory, host, port, **options)

    uvloop.Loop.create_connection = create_guarded


class _UvloopFinder(importlib.abc.MetaPathFinder):
    """Guards uvloop when it is imported, so that processes without it do not pay for it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "uvloop":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("uvloop")
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_guard(module: ModuleType) -> None:
                execute(module)
                _guard_uvloop(module)

            spec.loader.exec_module = execute_and_guard  # type: ignore[method-assign]
        return spec
