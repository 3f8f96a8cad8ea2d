"""No test meets what runs on this machine, or what its user has set."""

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import uvloop

from tests.support.decoys import PORTS, run_decoys
from tests.support.isolation import KEPT_PREFIXES, KEPT_VARIABLES, UsualPorts
from tests.support.real_engines import free_port

CONNECT = "import socket; socket.create_connection(('localhost', 11434))"


def test_every_usual_port_is_guarded_and_has_a_decoy() -> None:
    from port_guard import USUAL_PORTS  # the folder that holds it is on the path of tests and of their processes

    assert frozenset(PORTS) == USUAL_PORTS


@pytest.mark.parametrize("port", PORTS)
def test_a_usual_port_is_refused_whoever_listens_there(port: int) -> None:
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("localhost", port)):
        pass
    with socket.socket() as attempt:
        assert attempt.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_coroutines_are_refused_and_led_as_well(new_loop, usual_ports: UsualPorts, tmp_path: Path) -> None:
    async def ask() -> bytes:
        reader, writer = await asyncio.open_connection("localhost", 11434)
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        status = await reader.readline()
        writer.close()
        await writer.wait_closed()
        return status

    port = free_port()
    with run_decoys(tmp_path / "log", [port]), asyncio.Runner(loop_factory=new_loop) as runner:
        with pytest.raises(OSError):
            runner.run(ask())
        usual_ports.redirect(11434, port)
        assert runner.run(ask()) == b"HTTP/1.1 200 OK\r\n"


def test_a_process_of_a_test_is_refused_too_and_led_where_the_test_wants(
    usual_ports: UsualPorts, tmp_path: Path
) -> None:
    def connect() -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run([sys.executable, "-c", CONNECT], capture_output=True, check=False)

    assert b"ConnectionRefusedError" in connect().stderr
    port = free_port()
    with run_decoys(tmp_path / "log", [port]):
        usual_ports.redirect(11434, port)
        assert connect().returncode == 0


def test_only_harmless_variables_are_left_and_no_settings_lie_in_the_working_directory() -> None:
    assert [name for name in os.environ if name not in KEPT_VARIABLES and not name.startswith(KEPT_PREFIXES)] == []
    assert not list(Path.cwd().iterdir())
