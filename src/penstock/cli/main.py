"""The command line. Each command reads the settings, calls the part that does the work, and turns what went wrong
into one line on standard error: exit code 1 when it failed, 2 when it was used wrongly.
"""

import json
import os
import shlex
import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn, cast

import typer

from penstock import __version__
from penstock.cli import check_config as report
from penstock.cli import classify as classifying
from penstock.cli import route as routing
from penstock.cli.vllm_args import command_line, remark
from penstock.config.errors import SettingsError
from penstock.config.load import load_settings
from penstock.config.server_address import is_loopback
from penstock.config.settings import Settings
from penstock.storage.data_dir import find_running_pid

app = typer.Typer(
    name="penstock",
    help="One address in front of your model servers: finds them, routes, fails over, speaks every client's dialect.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_USAGE_ERROR = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])
"""The parent of all complaints about words on the command line; typer does not name it."""


class LogFormat(StrEnum):
    """How a log line looks."""

    text = "text"
    json = "json"


class SimKind(StrEnum):
    """Model servers that can be simulated."""

    ollama = "ollama"
    vllm = "vllm"
    llamacpp = "llamacpp"
    mlx = "mlx"
    victoria = "victoria"


ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="Settings file. Default: PENSTOCK_CONFIG, ./penstock.yaml."),
]
HostOption = Annotated[str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1.")]
PortOption = Annotated[int | None, typer.Option(help="Port to listen on; 0: any free one. Default: 8005.")]
LogFormatOption = Annotated[LogFormat | None, typer.Option(help="How log lines look. Default: text.")]


def main() -> None:
    """Run the command that the command line names, and exit."""
    sys.exit(run(sys.argv[1:]))


def run(words: list[str]) -> int:
    """Run one command; returns the exit code."""
    try:
        result = app(args=words, prog_name="penstock", standalone_mode=False)
    except _USAGE_ERROR as error:
        if not words:
            sys.stdout.write(error.format_message() + "\n")
            return 2
        command = error.ctx.command_path if error.ctx else "penstock"
        message = " ".join(error.format_message().split()).rstrip(".")
        return _say(f"{command}: {message}; see {command} --help", 2)
    except typer.Abort:
        return _say("penstock: stopped", 1)
    return result if isinstance(result, int) else 0


def _say(line: str, code: int) -> int:
    sys.stderr.write(line + "\n")
    return code


def _fail(line: str, code: int) -> NoReturn:
    raise typer.Exit(_say(f"penstock: {line}", code))


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"penstock {__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def serve(
    config: ConfigOption = None,
    host: HostOption = None,
    port: PortOption = None,
    log_format: LogFormatOption = None,
) -> int:
    """Run the gateway in the foreground until Ctrl-C.

    \b
    Examples:
      penstock serve
      penstock serve --port 9000
      penstock serve --config /etc/penstock.yaml --log-format json
    """
    return _serve(config, host, port, log_format, demo=False)


@app.command()
def demo(
    config: ConfigOption = None,
    host: HostOption = None,
    port: PortOption = None,
    log_format: LogFormatOption = None,
) -> int:
    """Run the gateway on simulated model servers, to see it work without any.

    Model servers in the settings are left out; every answer begins with [simulated].

    \b
    Examples:
      penstock demo
      penstock demo --port 9000
    """
    return _serve(config, host, port, log_format, demo=True)


def _serve(config: Path | None, host: str | None, port: int | None, log_format: LogFormat | None, *, demo: bool) -> int:
    said = {"server.host": host, "server.port": port, "server.log_format": log_format and log_format.value}
    overrides: dict[str, object] = {key: value for key, value in said.items() if value is not None}
    settings = _load(config, overrides, demo=demo)
    listen = settings.server
    if not is_loopback(listen.host) and not listen.open:
        _fail(
            f"will not listen on {listen.host} while there are no accounts: keep 127.0.0.1, or set server.open: true "
            "(PENSTOCK_OPEN=1) knowing that anybody who reaches the port may use it",
            2,
        )
    from penstock.app.gateway import serve as run_gateway  # lazy: a web framework, which no other command needs  # noqa: PLC0415

    return int(run_gateway(settings, config_path=config, overrides=overrides))


def _load(config: Path | None, overrides: dict[str, object] | None = None, *, demo: bool = False) -> Settings:
    try:
        return load_settings(config, overrides, demo=demo)
    except SettingsError as error:
        for mistake in error.errors:
            _say(f"penstock: {mistake}", 2)
        raise typer.Exit(2) from None


@app.command("check-config")
def check_config(
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Show the effective settings and where each one was said; exit 2 if something is wrong with them.

    \b
    Examples:
      penstock check-config
      penstock check-config --config /etc/penstock.yaml
      penstock check-config --json
    """
    return report.run(config, as_json=as_json)


@app.command()
def reload(config: ConfigOption = None) -> int:
    """Tell the running gateway to read its settings again. No request is interrupted.

    The gateway is found by its data folder. When the new settings are wrong, its log says so and the old ones stay.

    \b
    Examples:
      penstock reload
      PENSTOCK_DATA_DIR=/srv/penstock penstock reload
    """
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is None:
        _fail("this system has no SIGHUP; change the settings file, the running gateway watches it", 1)
    folder = _load(config).data_dir
    pid = find_running_pid(folder)
    if pid is None:
        _fail(f"no gateway runs on {folder}; start it with `penstock serve`, or set PENSTOCK_DATA_DIR to its folder", 1)
    try:
        os.kill(pid, hangup)
    except OSError as error:
        _fail(f"cannot signal the gateway (process {pid}): {error.strerror}; run this as the user it runs as", 1)
    sys.stdout.write(f"Told the gateway (process {pid}) to read its settings again; its log says what came of it.\n")
    return 0


@app.command("vllm-args")
def vllm_args(
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list of words.")] = False,
) -> int:
    """Print the `vllm serve` command that the VLLM_* variables mean.

    \b
    Examples:
      VLLM_MODEL=Qwen/Qwen3-8B penstock vllm-args
      eval "$(penstock vllm-args)"
    """
    settings = _load(config)
    if not settings.vllm.model:
        _fail("no model for vLLM is named: set VLLM_MODEL, or LLM_MODEL together with LLM_MODE=vllm", 2)
    words = command_line(settings)
    if said := remark(settings.vllm):
        _say(f"penstock: {said}", 0)
    sys.stdout.write((json.dumps(words) if as_json else shlex.join(words)) + "\n")
    return 0


@app.command()
def route(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What would be asked; -: read it from standard input.")],
    model: Annotated[str, typer.Option(help="A model's name, or auto:fast|balanced|powerful|code.")] = "",
    url: Annotated[str, typer.Option(help="The gateway's address. Default: as in the settings.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    config: ConfigOption = None,
) -> int:
    """Ask the running gateway where a request would go and why. Nothing is generated.

    Prints how hard the text is, what kind of task, and every candidate with its score, seconds and reasons, best first.

    \b
    Examples:
      penstock route "Объясни паттерн Singleton"
      penstock route --model auto:code --json "Reverse a list in Rust"
      penstock route --url http://gateway:8005 - < question.txt
    """
    try:
        return routing.run(text, model, url or _address(_load(config)), as_json=as_json)
    except routing.RouteError as error:
        _fail(f"route: {error}", error.code)


def _address(settings: Settings) -> str:
    """Where the gateway of these settings is reached from this machine."""
    listen = settings.server
    here = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(listen.host, listen.host)
    return f"http://[{here}]:{listen.port}" if ":" in here else f"http://{here}:{listen.port}"


@app.command()
def classify(config: ConfigOption = None) -> int:
    """Judge texts: one {"text": …} a line in, one {"level", "task_type", "scores"} a line out, in the same order.

    No gateway is needed.

    \b
    Examples:
      penstock classify < texts.jsonl > levels.jsonl
      echo '{"text": "Привет!"}' | penstock classify
    """
    return classifying.run(_load(config).routing.under_cost)


@app.command()
def sim(
    kind: Annotated[SimKind, typer.Option(help="Which model server to play.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free one.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    models: Annotated[str, typer.Option(help="Models it has, with commas between. Default: as the kind.")] = "",
    slots: Annotated[int, typer.Option(min=1, help="Answers it makes at a time.")] = 2,
    tokens_per_second: Annotated[float, typer.Option(help="Speed of writing; inf: at once.")] = 50.0,
    prefill_rate: Annotated[
        float, typer.Option("--prefill-tokens-per-second", help="Speed of reading a prompt; inf: at once.")
    ] = 2000.0,
    load_seconds: Annotated[float, typer.Option(min=0, help="Time to load a model.")] = 5.0,
    max_loaded: Annotated[int, typer.Option(min=1, help="Models that fit into its memory at a time.")] = 3,
    queue_limit: Annotated[int, typer.Option(min=0, help="Requests that may wait; more are refused.")] = 512,
    cold_start: Annotated[bool, typer.Option(help="Load the model first (servers of one model).")] = False,
    seed: Annotated[int, typer.Option(help="Makes faults fall the same way every time.")] = 0,
    faults: Annotated[
        str, typer.Option(help="What goes wrong, with chances: refuse=0.1,cut=0.05. A name alone: always.")
    ] = "",
) -> int:
    """Run a simulated model server that speaks the real one's protocol.

    \b
    Examples:
      penstock sim --kind ollama --port 11434 --models gemma3:1b,qwen2.5:1.5b
      penstock sim --kind vllm --port 8000 --slots 16 --tokens-per-second 200
      penstock sim --kind llamacpp --port 8080 --faults hang_before=0.1,status_503=0.2
      penstock sim --kind ollama --port 11435 --prefill-tokens-per-second 300 --max-loaded 1 --seed 7
    """
    from penstock import sim as simulation  # lazy: only this command simulates  # noqa: PLC0415

    try:
        options = simulation.SimOptions(
            kind=kind.value,
            host=host,
            port=port,
            models=tuple(name.strip() for name in models.split(",") if name.strip()),
            slots=slots,
            tokens_per_second=tokens_per_second,
            prefill_tokens_per_second=prefill_rate,
            load_seconds=load_seconds,
            max_loaded=max_loaded,
            queue_limit=queue_limit,
            cold_start=cold_start,
            seed=seed,
            faults=simulation.Faults.parse(faults),
        )
        simulation.run(options)
    except ValueError as error:
        _fail(f"sim: {error}", 2)
    except OSError as error:
        _fail(f"sim: cannot listen on {host}:{port}: {error.strerror}; take another --port, or 0 for any free one", 1)
    return 0
