"""Checks and reports of the start script around `penstock serve`. Standard library only; runs in `.venv`.

    startup_report.py address [arguments of penstock serve]    print the resulting URL, LLM_MODE and LLM_MODEL
    startup_report.py report URL PID MODE MODEL                 wait for the gateway, and print its servers

Exit code of `address`: 2 for wrong settings or arguments, 1 for a port that is taken; of `report`: 1 for no answer.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

START_TIMEOUT = 60.0  # seconds
USUAL_OLLAMA = "http://localhost:11434"
PENSTOCK = Path(sys.executable).with_name("penstock")

# Loopback needs no proxy, whatever the environment says.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def print_address(arguments: list[str]) -> int:
    config = _find_option(arguments, "--config", "-c")
    command = [str(PENSTOCK), "check-config", "--json", *(["--config", config] if config else [])]
    checked = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if checked.returncode:
        return checked.returncode
    settings = {key: one["value"] for key, one in json.loads(checked.stdout)["settings"].items()}
    host = _find_option(arguments, "--host") or settings["server.host"]
    port_text = _find_option(arguments, "--port") or settings["server.port"]
    port = int(port_text) if port_text.isdecimal() else 0
    if not 0 < port < 65536:
        _print_error("The port must be a number from 1 to 65535.")
        return 2
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    if _is_taken(host, port):
        _print_error(
            f"Something answers at {url} already{_describe_owner(url)}. Take another port "
            f"(scripts/start_vllm_ollama.sh {port + 1}), or stop what is there (--stop ends a detached gateway)."
        )
        return 1
    print(url, settings["llm.mode"], settings["llm.model"])
    return 0


def report_servers(url: str, pid: int, mode: str, model: str) -> int:
    health = _wait_for_health(url, pid)
    if health is None:
        return 1
    servers = (_get_json(f"{url}/api/models/servers") or {}).get("servers", [])
    lines = ["", f"Penstock answers at {url} ({health.get('status', 'unknown')})", *_describe_servers(servers, health)]
    lines += _describe_problems(health) or _suggest_pulls(health, servers, mode, model)
    print("\n".join([*lines, ""]), flush=True)
    return 0


def _wait_for_health(url: str, pid: int) -> dict[str, Any] | None:
    """Wait for the first response of /health, whatever its status; None if the gateway ended or does not answer."""
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if not _is_alive(pid):
            return None
        health = _get_json(f"{url}/health")
        if health is not None:
            return health
        time.sleep(0.1)
    _print_error(
        f"The gateway (process {pid}) does not answer at {url}/health after {START_TIMEOUT:.0f} s; see its log."
    )
    return None


def _describe_servers(servers: list[dict[str, Any]], health: dict[str, Any]) -> list[str]:
    if health.get("simulated"):
        return [
            "  No model server was found: two simulated ones answer, and every answer begins with [simulated].",
            "  Start a real one (`ollama serve`), or name one in penstock.yaml; it takes over within 30 seconds.",
        ]
    listed = [server for server in servers if server["state"] == "up" or server.get("configured")]
    return [f"  {server['name']}: {server['kind']} at {server['url']}, {_describe_state(server)}" for server in listed]


def _describe_state(server: dict[str, Any]) -> str:
    if server["state"] != "up":
        return str(server["state"])
    names = server["models"]
    listed = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    return f"up, {len(names)} model{'' if len(names) == 1 else 's'}{': ' if names else ''}{listed}"


def _describe_problems(health: dict[str, Any]) -> list[str]:
    """Describe the servers that do not answer: tried addresses, error, and what to do."""
    lines = [
        f"  {one['server']}: tried {', '.join(one['tried'])}: {one['error'].rstrip('.')}. {one['what_to_do']}"
        for one in health.get("problems", [])
    ]
    return ["Not reachable:", *lines] if lines else []


def _suggest_pulls(health: dict[str, Any], servers: list[dict[str, Any]], mode: str, model: str) -> list[str]:
    """Return a command for each key model that the Ollama servers lack; none if there is no Ollama."""
    ollama = [one for one in servers if one["kind"] == "ollama" and one["state"] == "up" and not one.get("simulated")]
    if not ollama:
        return []
    ollama_health = health["services"]["ollama"]
    missing = [] if ollama_health.get("bge_m3_available") else ["bge-m3"]
    missing += [] if ollama_health.get("gpt_oss_available") else ["gpt-oss:20b"]
    has = {name for server in ollama for name in server["models"]}
    if mode == "ollama" and not has & {model, f"{model}:latest", model.removesuffix(":latest")}:
        missing.append(model)
    url = ollama[0]["url"]
    where = "" if url.replace("127.0.0.1", "localhost") == USUAL_OLLAMA else f"OLLAMA_HOST={url} "
    lines = [f"  {where}ollama pull {name}" for name in missing]
    return ["Missing models, and how to get them:", *lines] if lines else []


def _get_json(url: str) -> dict[str, Any] | None:
    try:
        with _opener.open(url, timeout=5) as reply:
            body = reply.read()
    except urllib.error.HTTPError as error:  # 503 is an answer too
        body = error.read()
    except OSError:
        return None
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _find_option(arguments: list[str], *options: str) -> str | None:
    """Return the last value of an option among the arguments, as `--option value` or `--option=value`."""
    value = None
    for index, argument in enumerate(arguments):
        name, equals, rest = argument.partition("=")
        if name in options:
            value = rest if equals else next(iter(arguments[index + 1 :]), None)
    return value


def _is_taken(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def _describe_owner(url: str) -> str:
    service = (_get_json(url) or {}).get("service")
    return f" (it is {service})" if service else ""


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _print_error(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(arguments: list[str]) -> int:
    match arguments:
        case ["address", *rest]:
            return print_address(rest)
        case ["report", url, pid, mode, model]:
            return report_servers(url, int(pid), mode, model)
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
