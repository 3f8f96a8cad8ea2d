"""Settings loaded from a folder and variables of the test's own."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from penstock import engines
from penstock.config.errors import ConfigError, SettingsError
from penstock.config.load import load_settings
from penstock.config.settings import ServerSettings, Settings

KINDS = {kind: engine.defaults for kind, engine in engines.load().items()}


@dataclass(frozen=True)
class SettingsFolder:
    """A working folder with a user's settings."""

    path: Path

    def write(self, text: str, name: str = "penstock.yaml") -> Path:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    def load(
        self,
        text: str | None = None,
        *,
        config: Path | None = None,
        overrides: Mapping[str, object] | None = None,
        demo: bool = False,
        **variables: str,
    ) -> Settings:
        if text is not None:
            self.write(text)
        environ = {"HOME": str(self.path / "home"), **variables}
        return load_settings(KINDS, config, overrides, demo=demo, environ=environ, directory=self.path)

    def load_errors(self, text: str | None = None, **options: str) -> tuple[ConfigError, ...]:
        with pytest.raises(SettingsError) as caught:
            self.load(text, **options)
        return caught.value.errors

    def load_error(self, text: str | None = None, **options: str) -> ConfigError:
        (only,) = self.load_errors(text, **options)
        return only


def list_configured(settings: Settings) -> list[str]:
    """Names of the servers that are configured, not merely probed."""
    return [server.name for server in settings.servers if server.configured]


def find_server(settings: Settings, name: str) -> ServerSettings:
    (found,) = (each for each in settings.servers if each.name == name)
    return found
