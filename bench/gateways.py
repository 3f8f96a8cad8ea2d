"""The gateways that are compared: how each is started in front of the stand-in, and what it is asked."""

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
"""What the stand-in streams beside tokens: finish, usage and `[DONE]`; or the last line."""
Words = list[str | Path]
Start = Callable[[Path, int, Sequence[str]], Words]

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
    """`name` is what tables say, `start` makes the command from a folder of its own, a port and the engines' URLs."""

    name: str
    start: Start
    version: Callable[[], str | None]
    """What is installed; None where it is not."""
    advice: str = ""
    """How to install it."""
    path: str = CHAT
    events: int = OPENAI_EVENTS
    environment: dict[str, str] = field(default_factory=dict)


def _nginx(folder: Path, port: int, engines: Sequence[str]) -> Words:
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, port=port, engine=engines[0].removeprefix("http://")))
    return [shutil.which("nginx") or "nginx", "-e", "stderr", "-c", config]


def _nginx_version() -> str | None:
    if shutil.which("nginx") is None:
        return None
    said = subprocess.run(["nginx", "-v"], capture_output=True, text=True).stderr
    found = re.search(r"nginx/(\S+)", said)
    return found[1] if found else "?"


def penstock(settings: str) -> Start:
    """Penstock from this checkout, with these settings and a data folder that goes away."""

    def start(folder: Path, port: int, engines: Sequence[str]) -> Words:
        config = folder / "bench.yaml"
        config.write_text(settings.format(*engines) + REST.format(folder=folder))
        return [sys.executable, "-m", "penstock", "serve", "--config", config, "--port", str(port)]

    return start


def penstock_version() -> str | None:
    """The version, with the commit it is at."""
    code = "import penstock; print(penstock.__version__)"
    version = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()
    git = ["git", "-C", str(REPOSITORY)]
    commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    changed = subprocess.run([*git, "status", "--porcelain", "src"], capture_output=True, text=True).stdout.strip()
    place = f" ({commit}{', changed' if changed else ''})" if commit else ""
    return f"{version}{place}" if version else None


def _router(name: str, *words: str) -> Start:
    def start(_folder: Path, port: int, engines: Sequence[str]) -> Words:
        options = ["--host", "127.0.0.1", "--port", str(port), "--worker-urls", engines[0], "--log-level", "error"]
        return [PEERS[name].program(name), *words, *options]

    return start


def _litellm(folder: Path, port: int, engines: Sequence[str]) -> Words:
    config = folder / "litellm.yaml"
    config.write_text(LITELLM.format(*engines))
    options = ["--host", "127.0.0.1", "--port", str(port), "--num_workers", "1", "--telemetry", "False"]
    return [PEERS["litellm"].program("litellm"), "--config", config, *options]


def _peer(name: str, title: str, start: Start, environment: dict[str, str] | None = None) -> Gateway:
    return Gateway(title, start, PEERS[name].version, f"bench/peers.py {name}", environment=environment or {})


def _own(title: str, settings: str, path: str = CHAT, events: int = OPENAI_EVENTS) -> Gateway:
    return Gateway(f"Penstock, {title}", penstock(settings), penstock_version, "pip install -e .", path, events)


GATEWAYS = {
    "nginx": Gateway("nginx `proxy_pass`", _nginx, _nginx_version, "apt-get install nginx-light"),
    "penstock": _own(f"`{CHAT}` on vLLM", VLLM_ONE),
    "penstock-two": _own("the same on two servers", VLLM_TWO),
    "penstock-ollama": _own(f"`{OLLAMA_CHAT}` on Ollama", OLLAMA_ONLY, OLLAMA_CHAT, OLLAMA_EVENTS),
    "penstock-translated": _own(f"`{CHAT}` on Ollama", OLLAMA_ONLY, CHAT, OLLAMA_EVENTS),
}
COMPARED = {
    "vllm-router": _peer("vllm-router", "vllm-router (Rust)", _router("vllm-router", "--policy", "round_robin")),
    "sglang-router": _peer(
        "sglang-router", "sglang-router (Rust)", _router("sglang-router", "launch", "--policy", "round_robin")
    ),
    "litellm": _peer("litellm", "LiteLLM proxy (Python)", _litellm, LITELLM_ALONE),
}
REFERENCE = "nginx"
