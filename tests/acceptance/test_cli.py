"""The command line as users run it: real processes, their output and exit codes."""

import contextlib
import http.client
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

COMMANDS = ["serve", "demo", "check-config", "reload", "vllm-args", "sim"]
DISTRIBUTED = """
llm:
  providers:
    ollama:
      base_url: http://192.168.178.126:11434
      fallback_urls: ["ollama-server.local:11434", "ollama.local:11434"]
      additional_servers:
        - {name: localhost, url: "http://localhost:11434", priority: SECONDARY}
        - {name: backup_gpu, url: "http://192.168.178.200:11434", priority: FALLBACK}
      distributed_mode: true
      auto_discover: true
"""

Penstock = Callable[..., "subprocess.CompletedProcess[str]"]


def variables(folder: Path, more: dict[str, str]) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "SYSTEMROOT", "LANG") if name in os.environ}
    return {**kept, "HOME": str(folder / "home"), "PENSTOCK_DATA_DIR": str(folder / "data"), **more}


@pytest.fixture
def penstock(tmp_path: Path) -> Penstock:
    """Run one command to its end in an empty folder, with no variables but the test's own."""

    def run(*words: str, **environ: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "penstock", *words],
            cwd=tmp_path,
            env=variables(tmp_path, environ),
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )

    return run


@contextlib.contextmanager
def run_in_background(folder: Path, words: Sequence[str]) -> Iterator["subprocess.Popen[str]"]:
    """Run a command in the background until the end of the block."""
    process = subprocess.Popen(
        words, cwd=folder, env=variables(folder, {}), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def one_line(result: "subprocess.CompletedProcess[str]") -> str:
    assert result.stderr.endswith("\n")
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr
    return result.stderr.strip()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(penstock: Penstock, command: str) -> None:
    result = penstock(command, "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert "Examples:" in result.stdout
    assert f"penstock {command}" in result.stdout


def test_the_help_names_every_command(penstock: Penstock) -> None:
    result = penstock("--help")
    assert result.returncode == 0
    assert all(command in result.stdout for command in COMMANDS)


def test_no_command_shows_the_help_and_exits_2(penstock: Penstock) -> None:
    result = penstock()
    assert result.returncode == 2
    assert "Commands:" in result.stdout


def test_the_version_is_printed(penstock: Penstock) -> None:
    result = penstock("--version")
    assert result.returncode == 0
    assert result.stdout.startswith("penstock 0.")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["serv"], "Did you mean 'serve'"),
        (["serve", "--prot", "5"], "No such option: --prot"),
        (["serve", "--port", "abc"], "--port"),
        (["serve", "extra"], "extra"),
        (["serve", "--log-format", "xml"], "--log-format"),
        (["sim"], "Missing option '--kind'"),
        (["sim", "--kind", "olama", "--port", "0"], "--kind"),
        (["sim", "--kind", "ollama", "--port", "0", "--faults", "refus=1"], "did you mean 'refuse'"),
        (["sim", "--kind", "ollama", "--port", "0", "--faults", "refuse=2"], "a probability from 0 to 1"),
        (["sim", "--kind", "ollama", "--port", "0", "--slots", "0"], "--slots"),
        (["sim", "--kind", "ollama", "--port", "70000"], "--port"),
        (["sim", "--kind", "ollama", "--port", "0", "--prefill-tokens-per-second", "0"], "must be more than 0"),
        (["sim", "--kind", "ollama", "--port", "0", "--load-seconds", "inf"], "load_seconds must be 0 or more"),
        (["sim", "--kind", "ollama", "--port", "0", "--max-loaded", "0"], "--max-loaded"),
        (["serve", "--port", "70000"], "command line: server.port must be at most 65535"),
        (["serve", "--config", "no.yaml"], "no.yaml cannot be read: No such file or directory"),
        (["check-config", "--config", "no.yaml"], "no.yaml cannot be read: No such file or directory"),
        (["serve", "--host", "0.0.0.0"], "server.open: true"),
        (["demo", "--host", "::"], "Keep 127.0.0.1"),
        (["vllm-args"], "Set VLLM_MODEL"),
    ],
)
def test_incorrect_use_is_reported_in_one_line_and_exits_2(penstock: Penstock, words: list[str], message: str) -> None:
    result = penstock(*words)
    assert result.returncode == 2
    assert message in one_line(result)
    assert result.stdout == ""


def test_starting_the_command_line_loads_no_web_framework(tmp_path: Path) -> None:
    code = (
        "import sys; from penstock.cli.main import run_command; run_command(['check-config']); "
        "print([name for name in ('fastapi', 'starlette', 'uvicorn', 'rich') if name in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=variables(tmp_path, {}),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert result.stderr == "[]\n"


def test_check_config_shows_each_setting_with_its_source(penstock: Penstock, tmp_path: Path) -> None:
    (tmp_path / "penstock.yaml").write_text("server:\n  keep_alive: 60\n", encoding="utf-8")
    (tmp_path / ".env").write_text("LLM_TIMEOUT=90\n", encoding="utf-8")
    result = penstock("check-config", VLLM_OLLAMA_PORT="9000")
    assert (result.returncode, result.stderr) == (0, "")
    lines = dict(line.split("  # ") for line in result.stdout.splitlines() if "  # " in line)
    found = {key.strip(): source for key, source in lines.items()}
    assert found["server.port = 9000"] == "environment VLLM_OLLAMA_PORT"
    assert found["server.keep_alive = 60"] == "file penstock.yaml:2"
    assert found["llm.timeout = 90"] == ".env LLM_TIMEOUT"
    assert found["server.host = 127.0.0.1"] == "default"


def test_check_config_lists_the_servers_of_the_distributed_example(penstock: Penstock, tmp_path: Path) -> None:
    (tmp_path / "penstock.yaml").write_text(DISTRIBUTED, encoding="utf-8")
    report = json.loads(penstock("check-config", "--json").stdout)
    assert report["ok"]
    assert [
        (server["name"], server["priority"], len(server["urls"]))
        for server in report["servers"]
        if server["configured"]
    ] == [("primary", "PRIMARY", 3), ("localhost", "SECONDARY", 1), ("backup_gpu", "FALLBACK", 1)]


def test_check_config_reports_every_error_in_a_line_of_its_own_and_exits_2(penstock: Penstock, tmp_path: Path) -> None:
    (tmp_path / "penstock.yaml").write_text("server:\n  prot: 1\nllm:\n  modle: x\n", encoding="utf-8")
    result = penstock("check-config", LLM_MODE="x")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "penstock: environment LLM_MODE: llm.mode must be one of ollama, vllm, none, not 'x'.",
        'penstock: penstock.yaml:2: server.prot is not a known key; did you mean "port"?',
        'penstock: penstock.yaml:4: llm.modle is not a known key; did you mean "mode"?',
    ]


def test_errors_are_available_as_json(penstock: Penstock, tmp_path: Path) -> None:
    (tmp_path / "penstock.yaml").write_text("server:\n  prot: 1\n", encoding="utf-8")
    result = penstock("check-config", "--json")
    assert result.returncode == 2
    assert json.loads(result.stdout) == {
        "ok": False,
        "mistakes": [
            {
                "path": "server.prot",
                "source": "file penstock.yaml:2",
                "line": 2,
                "message": 'is not a known key; did you mean "port"?',
            }
        ],
    }


def test_check_config_shows_no_secret_and_keeps_russian_text(penstock: Penstock) -> None:
    for words in (["check-config"], ["check-config", "--json"]):
        result = penstock(
            *words,
            OLLAMA_URL="http://user:topsecret@gpu",
            PENSTOCK_SECRET_KEY="topsecret-topsecret",
            DATABASE_URL="postgresql://u:topsecret@db/x",
            LLM_MODEL="модель",
        )
        assert result.returncode == 0
        assert "topsecret" not in result.stdout + result.stderr
        assert "модель" in result.stdout


def test_serve_and_vllm_args_refuse_wrong_settings_too(penstock: Penstock, tmp_path: Path) -> None:
    (tmp_path / "penstock.yaml").write_text("server: {prot: 1}\n", encoding="utf-8")
    for command in ("serve", "demo", "vllm-args", "reload"):
        result = penstock(command)
        assert result.returncode == 2
        assert "penstock.yaml:1: server.prot" in one_line(result)


def test_two_models_under_vllm_stop_the_start_naming_both(penstock: Penstock) -> None:
    result = penstock(
        "serve", LLM_MODE="vllm", LLM_MODEL="llama3.1:8b", VLLM_MODEL="meta-llama/Meta-Llama-3.1-8B-Instruct"
    )
    assert result.returncode == 2
    line = one_line(result)
    assert "llama3.1:8b" in line
    assert "meta-llama/Meta-Llama-3.1-8B-Instruct" in line


def test_vllm_args_prints_a_command_that_a_shell_reads_back(penstock: Penstock) -> None:
    result = penstock("vllm-args", VLLM_MODEL="my org/model", VLLM_TENSOR_PARALLEL_SIZE="2")
    assert (result.returncode, result.stderr) == (0, "")
    words = shlex.split(result.stdout)
    assert words[:3] == ["vllm", "serve", "my org/model"]
    assert words[words.index("--tensor-parallel-size") + 1] == "2"
    as_json = penstock("vllm-args", "--json", VLLM_MODEL="my org/model", VLLM_TENSOR_PARALLEL_SIZE="2")
    assert json.loads(as_json.stdout) == words


def test_reload_without_a_gateway_fails_with_what_to_do(penstock: Penstock, tmp_path: Path) -> None:
    result = penstock("reload")
    assert result.returncode == 1
    assert one_line(result) == (
        f"penstock: No gateway uses the data folder {tmp_path / 'data'}. "
        "Start one with `penstock serve`, or set PENSTOCK_DATA_DIR to the folder of the running one."
    )


HOLD_UNTIL_HANGUP = """
import signal, sys
from pathlib import Path
from penstock.storage.data_dir import claim_data_dir
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
with claim_data_dir(Path(sys.argv[1])):
    print("held", flush=True)
    signal.sigwait({signal.SIGHUP})
    print("signalled", flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_reload_signals_the_gateway_of_the_data_folder(penstock: Penstock, tmp_path: Path) -> None:
    with run_in_background(tmp_path, [sys.executable, "-c", HOLD_UNTIL_HANGUP, str(tmp_path / "data")]) as gateway:
        assert gateway.stdout is not None
        assert gateway.stdout.readline() == "held\n"
        result = penstock("reload")
        assert (result.returncode, result.stderr) == (0, "")
        assert f"process {gateway.pid}" in result.stdout
        assert gateway.stdout.readline() == "signalled\n"
        assert gateway.wait(timeout=30) == 0


@pytest.mark.parametrize("kind", ["ollama", "vllm", "llamacpp", "mlx", "victoria"])
def test_a_simulated_server_prints_its_address_and_answers_there(tmp_path: Path, kind: str) -> None:
    words = [sys.executable, "-m", "penstock", "sim", "--kind", kind, "--port", "0", "--models", "gemma3:1b"]
    with run_in_background(tmp_path, words) as simulator:
        assert simulator.stdout is not None
        line = simulator.stdout.readline()
        assert line.startswith(f"Simulated {kind} at http://127.0.0.1:")
        port = int(line.partition("127.0.0.1:")[2].partition(":")[0])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/api/tags" if kind in ("ollama", "mlx") else "/health")
        assert connection.getresponse().status == 200
        connection.close()
        simulator.send_signal(signal.SIGTERM)
        assert simulator.wait(timeout=30) == 0


def test_a_simulated_server_uses_its_options(tmp_path: Path) -> None:
    words = "sim --kind llamacpp --port 0 --cold-start --load-seconds 3600 --max-loaded 1 --queue-limit 0 --seed 7"
    with run_in_background(tmp_path, [sys.executable, "-m", "penstock", *words.split()]) as simulator:
        assert simulator.stdout is not None
        port = int(simulator.stdout.readline().partition("127.0.0.1:")[2].partition(":")[0])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/health")
        assert connection.getresponse().status == 503  # it is loading, for an hour
        connection.close()


def test_a_simulated_server_on_a_taken_port_fails_in_one_line(penstock: Penstock, tmp_path: Path) -> None:
    with run_in_background(
        tmp_path, [sys.executable, "-m", "penstock", "sim", "--kind", "ollama", "--port", "0"]
    ) as first:
        assert first.stdout is not None
        port = first.stdout.readline().partition("127.0.0.1:")[2].partition(":")[0]
        result = penstock("sim", "--kind", "vllm", "--port", port)
        assert result.returncode == 1
        assert f"Cannot listen on 127.0.0.1:{port}" in one_line(result)
