"""Kinds of model server are plain data: a new kind needs no change in the settings."""

from pathlib import Path

import pytest

from penstock.config.errors import ConfigError, SettingsError
from penstock.config.kinds import sort_kinds
from penstock.config.load import load_settings
from penstock.config.settings import Settings
from penstock.domain.server_kind import KindDefaults
from tests.support.settings_folder import KINDS, find_server

NEW_KINDS = {
    "triton": KindDefaults(
        port=9001, slots=7, api_paths=("/v2",), local_probe="never", url_variables=("TRITON_URL",), min_timeout=300.0
    ),
    **KINDS,
}


def load(folder: Path, text: str = "", **variables: str) -> Settings:
    (folder / "penstock.yaml").write_text(text, encoding="utf-8")
    return load_settings(NEW_KINDS, environ={"HOME": str(folder), **variables}, directory=folder)


def load_error(folder: Path, text: str) -> ConfigError:
    with pytest.raises(SettingsError) as caught:
        load(folder, text)
    (error,) = caught.value.errors
    return error


def test_a_new_kind_has_a_section_with_the_defaults_that_it_declares(tmp_path: Path) -> None:
    triton = find_server(load(tmp_path, "llm: {providers: {triton: {url: gpu/v2, api_key: k}}}"), "triton")
    assert (triton.kind, triton.urls, triton.max_concurrent, triton.api_key) == (
        "triton",
        ("http://gpu:9001",),
        7,
        "k",
    )
    assert triton.timeouts.total == 300


def test_a_new_kind_has_the_variables_that_it_declares(tmp_path: Path) -> None:
    settings = load(tmp_path, TRITON_URL="http://gpu:1")
    assert find_server(settings, "triton").urls == ("http://gpu:1",)
    assert settings.effective_values["llm.providers.triton.url"].source == "environment TRITON_URL"


def test_a_new_kind_may_be_in_the_chain_of_agent_chat(tmp_path: Path) -> None:
    assert load(tmp_path, "chat: {chain: [triton, mlx]}").chat.chain == ("triton", "mlx")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("llm: {providers: {triton: {urll: x}}}", 'is not a known key; did you mean "url"?'),
        ("llm: {providers: {tritn: {url: x}}}", 'is not a known key; did you mean "triton"?'),
        ("llm: {providers: {triton: {enabled: true}}}", "names no server; set `url` or a list of `servers`"),
        ("llm: {providers: {triton: {servers: [{url: 'x y'}]}}}", "must not contain spaces"),
    ],
)
def test_the_section_of_a_new_kind_is_validated_as_any_other(tmp_path: Path, text: str, message: str) -> None:
    assert load_error(tmp_path, text).message.startswith(message)


def test_an_unknown_kind_is_not_a_key(tmp_path: Path) -> None:
    (tmp_path / "penstock.yaml").write_text("llm: {providers: {victoria: {url: x}}}", encoding="utf-8")
    kinds = {kind: defaults for kind, defaults in KINDS.items() if kind != "victoria"}
    with pytest.raises(SettingsError, match=r"llm\.providers\.victoria is not a known key"):
        load_settings(kinds, environ={}, directory=tmp_path)


def test_kinds_have_one_order_however_they_were_found() -> None:
    names = list(sort_kinds(dict(reversed(NEW_KINDS.items()))))
    assert names == ["ollama", "vllm", "llamacpp", "mlx", "openai", "triton", "victoria"]
