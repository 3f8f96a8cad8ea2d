"""Gateways to compare: how each is started in front of the stand-in, and the requests it gets."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from peers import PEERS

REPOSITORY = Path(__file__).resolve().parents[1]
CHAT = "/v1/chat/completions"
OLLAMA_CHAT = "/api/chat"
OPENAI_EVENTS, OLLAMA_EVENTS = 3, 1
"""Number of events that the stand-in streams after the tokens: finish, usage and `[DONE]`; or the last line."""
Command = list[str | Path]
CommandBuilder = Callable[[Path, int, Sequence[str]], Command]

NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 100000000;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  upstream engine {{ server {engine}; keepalive 512; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=8192;
    location / {{
      proxy_pass http://engine; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; proxy_read_timeout 600s;
    }}
  }}
}}
"""
OLLAMA_ONLY = """
llm:
  providers:
    ollama: {{base_url: "{0}", max_concurrent: 20000}}
"""
VLLM_ONE = """
llm:
  providers:
    ollama: {{enabled: false}}
    vllm: {{url: "{0}", max_concurrent: 20000}}
"""
VLLM_TWO = """
llm:
  providers:
    ollama: {{enabled: false}}
    vllm:
      servers:
        - {{name: first, url: "{0}", max_concurrent: 20000}}
        - {{name: second, url: "{1}", max_concurrent: 20000}}
"""
REST = """
server: {{max_connections: 40000}}
storage: {{data_dir: "{folder}"}}
"""
LITELLM = """
model_list:
  - model_name: m
    litellm_params: {{model: openai/m, api_base: "{0}/v1", api_key: none}}
"""
LITELLM_ALONE = {  # no downloads; no keys, as with all the others
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
}


@dataclass(frozen=True, slots=True)
class Gateway:
    """Gateway with its `name` in tables. `build_command` takes its own folder, a port and the model servers' URLs."""

    name: str
    build_command: CommandBuilder
    read_version: Callable[[], str | None]
    """Returns the installed version, None if not installed."""
    advice: str = ""
    """Command to install it."""
    path: str = CHAT
    events: int = OPENAI_EVENTS
    environment: dict[str, str] = field(default_factory=dict)


def _nginx_command(folder: Path, port: int, engines: Sequence[str]) -> Command:
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, port=port, engine=engines[0].removeprefix("http://")))
    return [shutil.which("nginx") or "nginx", "-e", "stderr", "-c", config]


def _read_nginx_version() -> str | None:
    if shutil.which("nginx") is None:
        return None
    output = subprocess.run(["nginx", "-v"], capture_output=True, text=True).stderr
    found = re.search(r"nginx/(\S+)", output)
    return found[1] if found else "?"


def penstock_command(settings: str) -> CommandBuilder:
    """Return the command for Penstock from this checkout, with these settings and a temporary data folder."""

    def build(folder: Path, port: int, engines: Sequence[str]) -> Command:
        config = folder / "bench.yaml"
        config.write_text(settings.format(*engines) + REST.format(folder=folder))
        return [sys.executable, "-m", "penstock", "serve", "--config", config, "--port", str(port)]

    return build


def read_penstock_version() -> str | None:
    """Return the version and the commit."""
    code = "import penstock; print(penstock.__version__)"
    version = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()
    git = ["git", "-C", str(REPOSITORY)]
    commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    changed = subprocess.run([*git, "status", "--porcelain", "src"], capture_output=True, text=True).stdout.strip()
    suffix = f" ({commit}{', changed' if changed else ''})" if commit else ""
    return f"{version}{suffix}" if version else None


def _router_command(name: str, *arguments: str) -> CommandBuilder:
    def build(_folder: Path, port: int, engines: Sequence[str]) -> Command:
        options = ["--host", "127.0.0.1", "--port", str(port), "--worker-urls", engines[0], "--log-level", "error"]
        return [PEERS[name].find_program(name), *arguments, *options]

    return build


def _litellm_command(folder: Path, port: int, engines: Sequence[str]) -> Command:
    config = folder / "litellm.yaml"
    config.write_text(LITELLM.format(*engines))
    options = ["--host", "127.0.0.1", "--port", str(port), "--num_workers", "1", "--telemetry", "False"]
    return [PEERS["litellm"].find_program("litellm"), "--config", config, *options]


def _peer_gateway(name: str, title: str, start: CommandBuilder, environment: dict[str, str] | None = None) -> Gateway:
    return Gateway(title, start, PEERS[name].read_version, f"bench/peers.py {name}", environment=environment or {})


def _penstock_gateway(title: str, settings: str, path: str = CHAT, events: int = OPENAI_EVENTS) -> Gateway:
    return Gateway(
        f"Penstock, {title}", penstock_command(settings), read_penstock_version, "pip install -e .", path, events
    )


GATEWAYS = {
    "nginx": Gateway("nginx `proxy_pass`", _nginx_command, _read_nginx_version, "apt-get install nginx-light"),
    "penstock": _penstock_gateway(f"`{CHAT}` on vLLM", VLLM_ONE),
    "penstock-two": _penstock_gateway("the same on two servers", VLLM_TWO),
    "penstock-ollama": _penstock_gateway(f"`{OLLAMA_CHAT}` on Ollama", OLLAMA_ONLY, OLLAMA_CHAT, OLLAMA_EVENTS),
    "penstock-translated": _penstock_gateway(f"`{CHAT}` on Ollama", OLLAMA_ONLY, CHAT, OLLAMA_EVENTS),
}
COMPARED = {
    "vllm-router": _peer_gateway(
        "vllm-router", "vllm-router (Rust)", _router_command("vllm-router", "--policy", "round_robin")
    ),
    "sglang-router": _peer_gateway(
        "sglang-router", "sglang-router (Rust)", _router_command("sglang-router", "launch", "--policy", "round_robin")
    ),
    "litellm": _peer_gateway("litellm", "LiteLLM proxy (Python)", _litellm_command, LITELLM_ALONE),
}
REFERENCE = "nginx"
