"""`penstock check-config`: the effective settings, where each was said, and what is wrong."""

import json
import sys
from pathlib import Path

from penstock.config.errors import ConfigError, SettingsError
from penstock.config.load import load_settings
from penstock.config.settings import ServerSettings, Settings


def run(config: Path | None, *, as_json: bool) -> int:
    """Print the report; returns 0, or 2 when the settings cannot be used."""
    try:
        settings = load_settings(config)
    except SettingsError as error:
        if as_json:
            _print_json({"ok": False, "mistakes": [_mistake(mistake) for mistake in error.errors]})
        for mistake in error.errors:
            sys.stderr.write(f"penstock: {mistake}\n")
        return 2
    if as_json:
        _print_json(_document(settings))
    else:
        sys.stdout.write("\n".join(_lines(settings)) + "\n")
    for warning in settings.warnings:
        sys.stderr.write(f"penstock: warning: {warning}\n")
    return 0


def _print_json(document: object) -> None:
    sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=2) + "\n")


def _lines(settings: Settings) -> list[str]:
    settings_shown = [(f"{key} = {one.value}", one.source) for key, one in settings.effective_values.items()]
    width = min(max(len(text) for text, _ in settings_shown), 72)
    lines = [f"{text:<{width}}  # {source}" for text, source in settings_shown]
    lines += ["", f"Settings file: {settings.config_path or 'none'}", "Model servers:"]
    for server in settings.servers:
        state = "configured" if server.configured else "default address, used if it answers"
        lines.append(f"  {server.name}: {server.kind} at {', '.join(server.urls)}, {server.priority}, {state}")
    return lines if settings.servers else [*lines, "  none"]


def _document(settings: Settings) -> dict[str, object]:
    return {
        "ok": True,
        "config_path": str(settings.config_path) if settings.config_path else None,
        "settings": {key: {"value": one.value, "source": one.source} for key, one in settings.effective_values.items()},
        "servers": [_server(server) for server in settings.servers],
        "warnings": list(settings.warnings),
    }


def _server(server: ServerSettings) -> dict[str, object]:
    return {
        "name": server.name,
        "kind": server.kind,
        "urls": list(server.urls),
        "priority": server.priority,
        "max_concurrent": server.max_concurrent,
        "configured": server.configured,
    }


def _mistake(mistake: ConfigError) -> dict[str, object]:
    _, _, line = mistake.source.rpartition(":")
    return {
        "path": mistake.path,
        "source": mistake.source,
        "line": int(line) if mistake.source.startswith("file ") and line.isdigit() else None,
        "message": mistake.message,
    }
