"""`penstock serve` and `penstock demo`: run the gateway."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.options import USAGE_ERROR, ConfigOption, fail, load_kinds, load_or_exit
from penstock.config.load import find_files_to_watch, load_settings
from penstock.config.server_address import is_loopback


class LogFormatChoice(StrEnum):
    """Format of a log line."""

    text = "text"
    json = "json"


HostOption = Annotated[str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1.")]
PortOption = Annotated[int | None, typer.Option(help="Port to listen on; 0: any free port. Default: 8005.")]
LogFormatOption = Annotated[LogFormatChoice | None, typer.Option(help="Format of log lines. Default: text.")]


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
    return _run_gateway(config, _build_overrides(host, port, log_format), demo=False)


def demo(
    config: ConfigOption = None,
    host: HostOption = None,
    port: PortOption = None,
    log_format: LogFormatOption = None,
) -> int:
    """Run the gateway with simulated model servers.

    Model servers in the settings are ignored; every response begins with [simulated].

    \b
    Examples:
      penstock demo
      penstock demo --port 9000
    """
    return _run_gateway(config, _build_overrides(host, port, log_format), demo=True)


def _build_overrides(host: str | None, port: int | None, log_format: LogFormatChoice | None) -> dict[str, object]:
    options = {"server.host": host, "server.port": port, "server.log_format": log_format and log_format.value}
    return {key: value for key, value in options.items() if value is not None}


def _run_gateway(config: Path | None, overrides: dict[str, object], *, demo: bool) -> int:
    settings = load_or_exit(config, overrides, demo=demo)
    listen = settings.server
    if not is_loopback(listen.host) and not listen.open:
        fail(
            f"Will not listen on {listen.host} while there are no accounts. Keep 127.0.0.1, or set server.open: true "
            "(PENSTOCK_OPEN=1) to let anybody who reaches the port use it.",
            USAGE_ERROR,
        )
    from penstock.app.run import ReloadSource, run_gateway  # lazy: only these commands need it  # noqa: PLC0415

    kinds = load_kinds()
    source = ReloadSource(
        load=lambda: load_settings(kinds, config, overrides, demo=demo),
        files=find_files_to_watch(config, environ=os.environ),
    )
    return run_gateway(settings, source)
