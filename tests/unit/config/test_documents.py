"""The reference and the example match the settings."""

import re
from pathlib import Path

import pytest
import yaml

from penstock.config.environment import OTHER_VARIABLES, list_variables
from penstock.config.file_schema import ServerEntry
from tests.support.settings_folder import KINDS, SettingsFolder, list_configured

VARIABLES = list_variables(KINDS)
ROOT = Path(__file__).parents[3]
REFERENCE = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
EXAMPLE = (ROOT / "penstock.example.yaml").read_text(encoding="utf-8")
SAME_KEYS = re.compile(r"llm\.providers\.(llamacpp|mlx|openai|victoria)\.|auth\.roles\.(priority|test_user)\.")


def list_documented_keys() -> dict[str, str]:
    """Return every key that has a row of its own, with its default."""
    rows: dict[str, str] = {}
    section = ""
    for line in REFERENCE.splitlines():
        if heading := re.match(r"#+ (?:`([^`]+)`)?", line):
            section = heading[1] or ""
        elif section and (row := re.match(r"\| `([^`]+)` \| ([^|]*)\|", line)):
            rows[f"{section}.{row[1]}"] = row[2].strip("` ")
    return rows


@pytest.mark.parametrize("name", [*(variable.name for variable in VARIABLES), *OTHER_VARIABLES])
def test_every_variable_is_in_the_reference(name: str) -> None:
    assert f"`{name}`" in REFERENCE


def test_every_variable_is_listed_with_its_key() -> None:
    for variable in VARIABLES:
        rows = ([cell.strip() for cell in line.split("|")] for line in REFERENCE.splitlines() if line.startswith("| `"))
        (key,) = (cells[3] for cells in rows if f"`{variable.name}`" in cells[1])
        assert f"`{variable.path}`" in key


def test_every_key_is_in_the_reference_with_its_default(folder: SettingsFolder) -> None:
    rows = list_documented_keys()
    for key, entry in folder.load().effective_values.items():
        if SAME_KEYS.match(key):
            continue
        assert key in rows
        if key != "storage.data_dir":
            assert (key, rows[key]) == (key, entry.value)


def test_the_reference_has_no_unknown_key(folder: SettingsFolder) -> None:
    known = set(folder.load().effective_values) | {
        f"llm.providers.*.servers[].{name}" for name in ServerEntry.model_fields
    }
    assert set(list_documented_keys()) <= known


def test_every_key_of_a_server_is_in_the_reference() -> None:
    rows = list_documented_keys()
    for name in ServerEntry.model_fields:
        assert f"llm.providers.*.servers[].{name}" in rows


def test_the_example_is_valid(folder: SettingsFolder) -> None:
    settings = folder.load(EXAMPLE)
    assert list_configured(settings) == ["primary"]
    assert settings.warnings == ()


def test_the_example_is_valid_with_everything_uncommented(folder: SettingsFolder) -> None:
    full = re.sub(r"^(\s*)#(?=[\w\"-])", r"\1", EXAMPLE, flags=re.MULTILINE)
    settings = folder.load(full)
    assert list_configured(settings) == ["primary", "backup_gpu", "gpu", "llamacpp", "mlx", "cloud", "victoria"]
    assert settings.server.max_body == 32 * 2**20


def test_values_in_the_example_are_the_defaults(folder: SettingsFolder) -> None:
    empty = folder.load()
    example = folder.load(EXAMPLE)
    for key, entry in example.effective_values.items():
        if entry.source != "default":
            assert entry.value == empty.effective_values[key].value


def test_the_example_has_every_section_that_this_version_uses() -> None:
    full = yaml.safe_load(re.sub(r"^(\s*)#(?=[\w\"-])", r"\1", EXAMPLE, flags=re.MULTILINE))
    assert set(full) == {"llm", "models", "routing", "server", "storage"}
    assert set(full["llm"]["providers"]) == {"ollama", "vllm", "llamacpp", "openai", "victoria", "mlx"}
