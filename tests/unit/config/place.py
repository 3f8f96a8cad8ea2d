"""Settings from a folder and variables that belong to the test alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from penstock.config.errors import ConfigError, SettingsError
from penstock.config.load import load_settings
from penstock.config.settings import ServerSettings, Settings


@dataclass(frozen=True)
class Place:
    """A working folder with what a user put into it."""

    folder: Path

    def write(self, text: str, name: str = "penstock.yaml") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

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
        environ = {"HOME": str(self.folder / "home"), **variables}
        return load_settings(config, overrides, demo=demo, environ=environ, directory=self.folder)

    def mistakes(self, text: str | None = None, **options: str) -> tuple[ConfigError, ...]:
        with pytest.raises(SettingsError) as caught:
            self.load(text, **options)
        return caught.value.errors

    def mistake(self, text: str | None = None, **options: str) -> ConfigError:
        (only,) = self.mistakes(text, **options)
        return only


def configured(settings: Settings) -> list[str]:
    """The servers that somebody asked for."""
    return [server.name for server in settings.servers if server.configured]


def server(settings: Settings, name: str) -> ServerSettings:
    (found,) = (one for one in settings.servers if one.name == name)
    return found
