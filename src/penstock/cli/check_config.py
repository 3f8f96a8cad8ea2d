"""`penstock check-config`: the effective settings, their sources, and errors."""

import json
import sys

from penstock.cli.options import USAGE_ERROR, ConfigOption, JsonOption, load_kinds, print_error
from penstock.config.errors import ConfigError, SettingsError
from penstock.config.load import load_settings
from penstock.config.settings import ServerSettings, Settings


def check_config(config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Show the effective settings and their sources.

    Exits with 2 if the settings are invalid.

    \b
    Examples:
      penstock check-config
      penstock check-config --config /etc/penstock.yaml
      penstock check-config --json
    """
    try:
        settings = load_settings(load_kinds(), config)
    except SettingsError as error:
        if as_json:
            _print_json({"ok": False, "mistakes": [_build_error_report(each) for each in error.errors]})
        for each in error.errors:
            print_error(f"penstock: {each}")
        return USAGE_ERROR
    if as_json:
        _print_json(_build_report(settings))
    else:
        sys.stdout.write("\n".join(_format_lines(settings)) + "\n")
    for warning in settings.warnings:
        print_error(f"penstock: Warning: {warning}")
    return 0


def _print_json(document: object) -> None:
    sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=2) + "\n")


def _format_lines(settings: Settings) -> list[str]:
    entries = [(f"{key} = {entry.value}", entry.source) for key, entry in settings.effective_values.items()]
    width = min(max(len(text) for text, _ in entries), 72)
    lines = [f"{text:<{width}}  # {source}" for text, source in entries]
    lines += ["", f"Settings file: {settings.config_path or 'none'}", "Model servers:"]
    for server in settings.servers:
        state = "configured" if server.configured else "default address, used if it responds"
        lines.append(f"  {server.name}: {server.kind} at {', '.join(server.urls)}, {server.priority}, {state}")
    return lines if settings.servers else [*lines, "  none"]


def _build_report(settings: Settings) -> dict[str, object]:
    values = settings.effective_values
    return {
        "ok": True,
        "config_path": str(settings.config_path) if settings.config_path else None,
        "settings": {key: {"value": entry.value, "source": entry.source} for key, entry in values.items()},
        "servers": [_build_server_report(server) for server in settings.servers],
        "warnings": list(settings.warnings),
    }


def _build_server_report(server: ServerSettings) -> dict[str, object]:
    return {
        "name": server.name,
        "kind": server.kind,
        "urls": list(server.urls),
        "priority": server.priority,
        "max_concurrent": server.max_concurrent,
        "configured": server.configured,
    }


def _build_error_report(error: ConfigError) -> dict[str, object]:
    _, _, line = error.source.rpartition(":")
    return {
        "path": error.path,
        "source": error.source,
        "line": int(line) if error.source.startswith("file ") and line.isdigit() else None,
        "message": error.message,
    }
