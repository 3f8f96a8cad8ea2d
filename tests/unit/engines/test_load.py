"""Kinds of engine that are found, and their default settings."""

import re
from pathlib import Path

import pytest

from penstock import engines
from penstock.domain.server_kind import KindDefaults
from penstock.engines import vllm

SETTINGS = Path(__file__).parents[3] / "docs" / "settings.md"


def test_every_engine_in_the_package_is_found_by_its_kind() -> None:
    found = engines.load()
    assert set(found) == {"llamacpp", "mlx", "ollama", "openai", "victoria", "vllm"}
    assert all(engine.kind == kind for kind, engine in found.items())


def test_two_engines_of_one_kind_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm.ENGINE.__class__, "kind", "ollama")
    with pytest.raises(ValueError, match="Two engines have the kind ollama"):
        engines.load()


def test_default_ports_are_the_documented_ones() -> None:
    documented = dict(
        re.findall(r"^\| `llm\.providers\.(\w+)` \|.*\| (\d*) ?\|$", SETTINGS.read_text("utf-8"), re.MULTILINE)
    )
    ports = {kind: engine.defaults for kind, engine in engines.load().items()}
    assert {kind: str(ports[kind].port) if port else "" for kind, port in documented.items()} == documented
    assert set(documented) == set(ports)


@pytest.mark.parametrize(
    ("defaults", "url"),
    [
        (KindDefaults(port=8000), "http://localhost:8000"),
        (KindDefaults(port=8000, local_probe="always"), "http://localhost:8000"),
        (KindDefaults(port=8000, local_probe="never"), None),
    ],
)
def test_a_kind_that_is_never_probed_has_no_default_address(defaults: KindDefaults, url: str | None) -> None:
    assert defaults.default_url == url
