"""Loading of settings: the command line over the environment over the file over the defaults."""

import os
from collections.abc import Mapping
from pathlib import Path

from penstock.config.environment import Environment, describe_read_error
from penstock.config.errors import ConfigError, SettingsError
from penstock.config.file_schema import build_schema
from penstock.config.kinds import Kinds, sort_kinds
from penstock.config.located_values import LocatedValue, RawText, build_nested, merge_trees
from penstock.config.resolve import ResolveContext, find_default_data_dir, resolve_settings
from penstock.config.settings import Settings
from penstock.config.validate import validate_tree
from penstock.config.yaml_reader import read_yaml

DEFAULT_FILES = (Path("penstock.yaml"), Path("backend/config/config.yaml"))


def load_settings(
    kinds: Kinds,
    config: Path | None = None,
    overrides: Mapping[str, object] | None = None,
    *,
    demo: bool = False,
    environ: Mapping[str, str] | None = None,
    directory: Path = Path(),
) -> Settings:
    """Read all sources, validate and resolve them.

    `kinds` are the kinds of model server that can be configured. `config` is the file named on the command line,
    `overrides` are its other settings by key path (``server.port``). `demo` ignores every configured model server.
    Raises SettingsError with all errors at once.
    """
    kinds = sort_kinds(kinds)
    environ = os.environ if environ is None else environ
    variables = Environment(environ, directory / ".env", kinds)
    file_path, file_tree, errors = _read_file(config, variables, directory)
    tree = merge_trees(file_tree, variables.build_tree(file_tree))
    for path, value in (overrides or {}).items():
        raw = RawText(value) if isinstance(value, str) else value
        tree = merge_trees(tree, build_nested(path.split("."), raw, "command line"))
    if demo:
        tree = tree.copy_without(("llm", "providers")).copy_without(("llm", "mode"))
    context = ResolveContext(
        kinds=kinds,
        data_dir=find_default_data_dir(environ),
        config_path=file_path,
        anything_configured=not demo and (file_path is not None or variables.has_configuration()),
        demo=demo,
        warnings=tuple(variables.warnings),
    )
    file, valid_tree, invalid = validate_tree(tree, build_schema(tuple(kinds)))
    settings, inconsistent = resolve_settings(file, valid_tree, context)
    if errors := [*variables.errors, *errors, *sorted(invalid + inconsistent, key=_reading_order)]:
        raise SettingsError(errors)
    return settings


def find_files_to_watch(
    config: Path | None, *, environ: Mapping[str, str], directory: Path = Path()
) -> tuple[Path, ...]:
    """Return the file that `load_settings` reads; without a named one, the default files in order of preference."""
    named = config or Environment(environ, directory / ".env", {}).get("PENSTOCK_CONFIG")
    return (directory / named,) if named else tuple(directory / default for default in DEFAULT_FILES)


def _read_file(
    config: Path | None, variables: Environment, directory: Path
) -> tuple[Path | None, LocatedValue, list[ConfigError]]:
    named = config or variables.get("PENSTOCK_CONFIG")
    path = directory / named if named else None
    if path is None:
        path = next((directory / default for default in DEFAULT_FILES if (directory / default).is_file()), None)
    if path is None:
        return None, LocatedValue({}, "default"), []
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        origin = "" if config or not named else f" ({variables.describe_source('PENSTOCK_CONFIG')})"
        message = f"cannot be read: {describe_read_error(error)}{origin}"
        return path, LocatedValue({}, "default"), [ConfigError("", f"file {path}", message)]
    tree, errors = read_yaml(text, path, variables.get)
    return path, tree, errors


def _reading_order(error: ConfigError) -> tuple[str, int]:
    file, _, line = error.source.rpartition(":")
    return (file, int(line)) if line.isdigit() else (error.source, 0)
