"""Error messages about invalid settings."""

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from penstock.config.errors import ConfigError, SettingsError, find_nearest, format_key_path
from penstock.config.file_schema import build_schema
from penstock.config.validate import list_keys
from tests.support.settings_folder import KINDS, SettingsFolder


def sections(model: type[BaseModel], above: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Yield the path of every section of the schema; for a list of sections, the path of its first."""
    found: list[tuple[str | int, ...]] = [above]
    for name, field in model.model_fields.items():
        inner: Any = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found += sections(inner, (*above, name))
        elif getattr(inner, "__origin__", None) is list and isinstance(entry := inner.__args__[0], type):
            found += sections(entry, (*above, name, 0)) if issubclass(entry, BaseModel) else []
    return found


SCHEMA = build_schema(tuple(KINDS))
SECTIONS = sections(SCHEMA)
LIST_ENTRY = {"url": "http://host:1"}


def document(path: tuple[str | int, ...], key: str, value: object) -> dict[str, Any]:
    inner: Any = {**(LIST_ENTRY if path and path[-1] == 0 else {}), key: value}
    for part in reversed(path):
        inner = [inner] if part == 0 else {part: inner}
    return inner


def line_of(text: str, key: str) -> int:
    return next(n for n, line in enumerate(text.splitlines(), 1) if f"{key}:" in line)


def test_the_schema_has_many_sections_and_lists() -> None:
    assert ("llm", "providers", "vllm", "servers", 0) in SECTIONS
    assert len(SECTIONS) > 30


@pytest.mark.parametrize("path", SECTIONS, ids=lambda path: format_key_path(path) or "top")
def test_an_unknown_key_is_reported_with_its_line_and_the_nearest_name(
    folder: SettingsFolder, path: tuple[str | int, ...]
) -> None:
    right = list_keys(SCHEMA, path)[0]
    wrong = f"{right}x"
    text = yaml.safe_dump(document(path, wrong, 1))
    error = folder.load_error(text)
    assert error.path == format_key_path((*path, wrong))
    assert error.source == f"file {folder.path / 'penstock.yaml'}:{line_of(text, wrong)}"
    assert error.message == f'is not a known key; did you mean "{right}"?'


@given(
    path=st.sampled_from(SECTIONS),
    key=st.from_regex(r"[a-z_]{1,12}", fullmatch=True),
    above=st.integers(0, 5),
    value=st.none() | st.integers() | st.lists(st.integers(), max_size=2) | st.just({"x": 1}),
)
def test_any_unknown_key_in_any_place_is_reported_with_its_line(
    shared_folder: SettingsFolder, path: tuple[str | int, ...], key: str, above: int, value: object
) -> None:
    known = list_keys(SCHEMA, path)
    if key in known:
        return
    text = "# comment\n" * above + yaml.safe_dump(document(path, key, value), default_flow_style=False)
    error = shared_folder.load_error(text)
    assert error.path == format_key_path((*path, key))
    assert error.source.endswith(f":{line_of(text, key)}") or len(path) > 0
    line = text.splitlines()[int(error.source.rpartition(":")[2]) - 1]
    assert f"{key}:" in line
    if close := find_nearest(key, known):
        assert error.message.endswith(f'did you mean "{close}"?')


@pytest.mark.parametrize("path", [path for path in SECTIONS if path], ids=lambda path: format_key_path(path))
@pytest.mark.parametrize("wrong", [5, "text", True])
def test_a_value_in_place_of_a_section_is_reported(
    folder: SettingsFolder, path: tuple[str | int, ...], wrong: object
) -> None:
    if path[-1] == 0:
        text = yaml.safe_dump(document(path[:-2], str(path[-2]), [wrong]))
    else:
        text = yaml.safe_dump(document(path[:-1], str(path[-1]), wrong))
    error = folder.load_error(text)
    assert error.path == format_key_path(path)
    assert error.message.startswith("must be a section of keys")


@pytest.mark.parametrize("path", SECTIONS, ids=lambda path: format_key_path(path) or "top")
def test_an_empty_section_counts_as_absent(folder: SettingsFolder, path: tuple[str | int, ...]) -> None:
    if not path or path[-1] == 0:
        path = ("server",)
    folder.load(yaml.safe_dump(document(path[:-1], str(path[-1]), None)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("port: 1", "port is not a known key; it belongs to server.port"),
        ("providers: {}", "providers is not a known key; known keys are llm, models, routing"),
        ("server: {timeout: 5}", 'server.timeout is not a known key; did you mean "timeouts"?'),
        ("server: {Port: 5}", 'server.Port is not a known key; did you mean "port"?'),
        ("llm: {olama: {}}", "llm.olama is not a known key; known keys are mode, model, timeout"),
        ("llm: {providers: {olama: {}}}", 'llm.providers.olama is not a known key; did you mean "ollama"?'),
        ("server: {port: '8005'}", "server.port must be an integer, not '8005'"),
        ("server: {port: 80.5}", "server.port must be an integer, not 80.5"),
        ("server: {port: true}", "server.port must be an integer, not 'true'"),
        ("server: {port: -1}", "server.port must be at least 0, not -1"),
        ("server: {port: []}", "server.port must be an integer"),
        ("server: {host: 5}", "server.host must be text in quotes, not 5"),
        ("server: {host: ''}", "server.host must not be empty"),
        ("server: {open: 'yes'}", "server.open must be true or false, not 'yes'"),
        ("server: {open: 1}", "server.open must be true or false, not 1"),
        (
            "server: {max_body: 32 bananas}",
            "server.max_body must be a size, such as 1048576 or 32MiB, not '32 bananas'",
        ),
        ("server: {max_body: 0}", "server.max_body must be at least 1, not 0"),
        (
            "server: {keep_alive: soon}",
            "server.keep_alive must be a number of seconds, or a duration such as 90s or 10m",
        ),
        ("server: {keep_alive: .inf}", "server.keep_alive must be a finite number"),
        ("server: {log_format: xml}", "server.log_format must be one of text, json, not 'xml'"),
        ("server: {cors_origins: '*'}", "server.cors_origins must be a list such as [a, b], not '*'"),
        ("server: {cors_origins: [example.com]}", "server.cors_origins[0] must be an origin"),
        ("server: {cors_origins: ['https://a.com/path']}", "server.cors_origins[0] must be an origin"),
        ("server: {allowed_hosts: ['http://x']}", "server.allowed_hosts[0] must be a host name without scheme"),
        ("models: {aliases: {a: b}}", "models.aliases.a must be a list such as [a, b], not 'b'"),
        ("models: {aliases: {'a:b': [1]}}", 'models.aliases["a:b"][0] must be text in quotes, not 1'),
        ("routing: {levels: {hard: []}}", "routing.levels.hard is not a known key; known keys are trivial, simple"),
        ("chat: {chain: []}", "chat.chain must not be empty"),
        ("chat: {chain: [victora]}", "chat.chain[0] must be one of ollama, vllm"),
        ("llm: {temperature: hot}", "llm.temperature must be a number, not 'hot'"),
        ("llm: {max_tokens: 0}", "llm.max_tokens must be at least 1, not 0"),
        ("llm: {mode: off}", "llm.mode must be one of ollama, vllm, none, not 'false'"),
        ("llm: {providers: {vllm: {servers: [{name: a}]}}}", "llm.providers.vllm.servers[0].url is missing"),
        ("llm: {providers: {vllm: {servers: {url: a}}}}", "llm.providers.vllm.servers must be a list"),
        ("llm: {providers: {vllm: {max_concurrent: 0}}}", "llm.providers.vllm.max_concurrent must be at least 1"),
        ("storage: {redis_url: 'http://x'}", "storage.redis_url must begin with redis:// or rediss://"),
        ("auth: {roles: {root: {}}}", "auth.roles.root is not a known key; known keys are admin, priority, test_user"),
        ("notifications: {webhooks: [{url: x y}]}", "notifications.webhooks[0].url must not contain spaces"),
    ],
)
def test_each_kind_of_error_has_its_message(folder: SettingsFolder, text: str, expected: str) -> None:
    error = folder.load_error(text)
    assert str(error).startswith(f"{folder.path / 'penstock.yaml'}:1: {expected}")


def test_errors_are_reported_in_the_order_of_the_lines(folder: SettingsFolder) -> None:
    text = "server:\n  prot: 1\n  host: 5\nllm:\n  mode: x\n  max_tokens: a\nqueue: 5\n"
    lines = [int(error.source.rpartition(":")[2]) for error in folder.load_errors(text)]
    assert lines == [2, 3, 5, 6, 7]


def test_an_error_in_one_server_hides_no_error_in_another(folder: SettingsFolder) -> None:
    text = """
llm:
  providers:
    vllm:
      servers:
        - {name: a}
        - {name: b, url: "x:1", nam: c}
        - 5
        - {name: d, url: "x:1"}
        - {name: b, url: "y:1"}
"""
    at = "llm.providers.vllm.servers"
    assert [error.path for error in folder.load_errors(text)] == [
        f"{at}[0].url",
        f"{at}[1].nam",
        f"{at}[2]",
        f"{at}[3].url",
        f"{at}[4].name",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "llm: {providers: {openai: {url: 'http://x', api_key: 'top secret'}}}",
        "llm: {providers: {openai: {url: 'http://u:top secret@x'}}}",
        "llm: {providers: {openai: {url: 'ftp://u:topsecret@x'}}}",
        "llm: {providers: {openai: {url: 'http://u:top/secret@x'}}}",
        "llm: {providers: {openai: {url: 'http://u:top@secret@x:port'}}}",
        "llm: {providers: {openai: {url: 'u:topsecret@x:port'}}}",
        "llm: {providers: {openai: {url: 'http://x', api_key: [topsecret]}}}",
        "auth: {secret_key: topsecret}",
        "storage: {database_url: 'mysql://u:topsecret@x'}",
    ],
)
def test_no_error_repeats_a_secret(folder: SettingsFolder, text: str) -> None:
    for error in folder.load_errors(text):
        assert "secret" not in error.message
        assert "topsecret" not in str(error)


def test_a_very_long_value_is_cut_in_the_message(folder: SettingsFolder) -> None:
    assert len(folder.load_error(f"server: {{log_format: {'x' * 5000}}}").message) < 200


@pytest.mark.parametrize(
    ("written", "seconds"), [("90", 90), ("90.5", 90.5), ("'90s'", 90), ("10m", 600), ("1.5 h", 5400), ("250ms", 0.25)]
)
def test_times_are_seconds_or_durations(folder: SettingsFolder, written: str, seconds: float) -> None:
    assert folder.load(f"server: {{keep_alive: {written}}}").server.keep_alive == seconds


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("1024", 1024),
        ("32MiB", 2**25),
        ("1 GB", 10**9),
        ("512k", 512_000),
        ("1.5KiB", 1536),
        ("10B", 10),
        ("2gib", 2**31),
    ],
)
def test_sizes_are_bytes_or_have_units(folder: SettingsFolder, written: str, size: int) -> None:
    assert folder.load(f"server: {{max_body: {written}}}").server.max_body == size


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda x: (
            st.lists(x, max_size=2)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "server",
                        "llm",
                        "port",
                        "providers",
                        "vllm",
                        "ollama",
                        "servers",
                        "url",
                        "aliases",
                        "models",
                        "timeouts",
                    ]
                ),
                x,
                max_size=3,
            )
        ),
        max_leaves=8,
    )
)
def test_any_document_is_settings_or_errors_with_locations(shared_folder: SettingsFolder, document: object) -> None:
    text = yaml.safe_dump({"llm": document, "server": document, "models": document})
    errors: tuple[ConfigError, ...] = ()
    try:
        shared_folder.load(text)
    except SettingsError as error:
        errors = error.errors
    lines = [int(error.source.rpartition(":")[2]) for error in errors]
    assert lines == sorted(lines)
    assert set(lines) <= set(range(1, len(text.splitlines()) + 1))
