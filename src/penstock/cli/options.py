"""Options that several commands have, and how commands load settings and fail."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from penstock.config.errors import SettingsError
from penstock.config.kinds import Kinds
from penstock.config.load import load_settings
from penstock.config.settings import Settings

FAILURE, USAGE_ERROR = 1, 2
"""Exit codes: the command failed; it was used incorrectly, invalid settings included."""

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="Settings file. Default: PENSTOCK_CONFIG, ./penstock.yaml."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def print_error(line: str) -> None:
    """Write one line to standard error."""
    sys.stderr.write(f"{line}\n")


def fail(sentence: str, code: int = FAILURE) -> NoReturn:
    """Write an error and exit with `code`."""
    print_error(f"penstock: {sentence}")
    raise typer.Exit(code)


def load_or_exit(config: Path | None, overrides: Mapping[str, object] | None = None, *, demo: bool = False) -> Settings:
    """Load the settings; exit with every error in a line of its own when they are invalid."""
    try:
        return load_settings(load_kinds(), config, overrides, demo=demo)
    except SettingsError as error:
        for each in error.errors:
            print_error(f"penstock: {each}")
        raise typer.Exit(USAGE_ERROR) from None


def load_kinds() -> Kinds:
    """Return the default settings of every kind of model server."""
    from penstock import engines  # lazy: --help needs no engines  # noqa: PLC0415

    return {kind: engine.defaults for kind, engine in engines.load().items()}
