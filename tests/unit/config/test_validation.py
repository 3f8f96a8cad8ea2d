"""What a user is told who wrote something wrong."""

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from penstock.config.errors import ConfigError, SettingsError, find_nearest, format_key_path
from penstock.config.file_schema import SettingsFile
from penstock.config.validate import list_keys
from tests.unit.config.place import Place


def sections(model: type[BaseModel], above: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The path of every section that the schema has; of a list of sections, the path of its first."""
    found: list[tuple[str | int, ...]] = [above]
    for name, field in model.model_fields.items():
        inner: Any = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found += sections(inner, (*above, name))
        elif getattr(inner, "__origin__", None) is list and isinstance(entry := inner.__args__[0], type):
            found += sections(entry, (*above, name, 0)) if issubclass(entry, BaseModel) else []
    return found


SECTIONS = sections(SettingsFile)
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
def test_an_unknown_key_in_any_section_is_reported_with_its_line_and_the_nearest_name(
    place: Place, path: tuple[str | int, ...]
) -> None:
    right = list_keys(path)[0]
    wrong = f"{right}x"
    text = yaml.safe_dump(document(path, wrong, 1))
    mistake = place.mistake(text)
    assert mistake.path == format_key_path((*path, wrong))
    assert mistake.source == f"file {place.folder / 'penstock.yaml'}:{line_of(text, wrong)}"
    assert mistake.message == f'there is no such key; did you mean "{right}"?'


@given(
    path=st.sampled_from(SECTIONS),
    key=st.from_regex(r"[a-z_]{1,12}", fullmatch=True),
    above=st.integers(0, 5),
    value=st.none() | st.integers() | st.lists(st.integers(), max_size=2) | st.just({"x": 1}),
)
def test_any_unknown_key_in_any_place_is_reported_with_its_line(
    shared_place: Place, path: tuple[str | int, ...], key: str, above: int, value: object
) -> None:
    known = list_keys(path)
    if key in known:
        return
    text = "# comment\n" * above + yaml.safe_dump(document(path, key, value), default_flow_style=False)
    mistake = shared_place.mistake(text)
    assert mistake.path == format_key_path((*path, key))
    assert mistake.source.endswith(f":{line_of(text, key)}") or len(path) > 0
    line = text.splitlines()[int(mistake.source.rpartition(":")[2]) - 1]
    assert f"{key}:" in line
    if close := find_nearest(key, known):
        assert mistake.message.endswith(f'did you mean "{close}"?')


@pytest.mark.parametrize("path", [path for path in SECTIONS if path], ids=lambda path: format_key_path(path))
@pytest.mark.parametrize("wrong", [5, "text", True])
def test_a_section_that_is_no_section_is_reported(place: Place, path: tuple[str | int, ...], wrong: object) -> None:
    if path[-1] == 0:
        text = yaml.safe_dump(document(path[:-2], str(path[-2]), [wrong]))
    else:
        text = yaml.safe_dump(document(path[:-1], str(path[-1]), wrong))
    mistake = place.mistake(text)
    assert mistake.path == format_key_path(path)
    assert mistake.message.startswith("must be a section of keys")


@pytest.mark.parametrize("path", SECTIONS, ids=lambda path: format_key_path(path) or "top")
def test_a_section_with_nothing_in_it_is_as_if_it_were_not_there(place: Place, path: tuple[str | int, ...]) -> None:
    if not path or path[-1] == 0:
        path = ("server",)
    place.load(yaml.safe_dump(document(path[:-1], str(path[-1]), None)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("port: 1", "port: there is no such key; it belongs to server.port"),
        ("providers: {}", "providers: there is no such key; there are: llm, models, routing"),
        ("server: {timeout: 5}", 'server.timeout: there is no such key; did you mean "timeouts"?'),
        ("server: {Port: 5}", 'server.Port: there is no such key; did you mean "port"?'),
        ("llm: {olama: {}}", "llm.olama: there is no such key; there are: mode, model, timeout"),
        ("llm: {providers: {olama: {}}}", 'llm.providers.olama: there is no such key; did you mean "ollama"?'),
        ("server: {port: '8005'}", "server.port: must be a whole number, not '8005'"),
        ("server: {port: 80.5}", "server.port: must be a whole number, not 80.5"),
        ("server: {port: true}", "server.port: must be a whole number, not 'true'"),
        ("server: {port: -1}", "server.port: must be at least 0, not -1"),
        ("server: {port: []}", "server.port: must be a whole number"),
        ("server: {host: 5}", "server.host: must be text; put it in quotes, not 5"),
        ("server: {host: ''}", "server.host: must not be empty"),
        ("server: {open: 'yes'}", "server.open: must be true or false, not 'yes'"),
        ("server: {open: 1}", "server.open: must be true or false, not 1"),
        (
            "server: {max_body: 32 bananas}",
            "server.max_body: must be a size, such as 1048576 or 32MiB, not '32 bananas'",
        ),
        ("server: {max_body: 0}", "server.max_body: must be at least 1, not 0"),
        (
            "server: {keep_alive: soon}",
            "server.keep_alive: must be a number of seconds, or a duration such as 90s or 10m",
        ),
        ("server: {keep_alive: .inf}", "server.keep_alive: must be a finite number"),
        ("server: {log_format: xml}", "server.log_format: must be one of text, json, not 'xml'"),
        ("server: {cors_origins: '*'}", "server.cors_origins: must be a list, as [a, b], not '*'"),
        ("server: {cors_origins: [example.com]}", "server.cors_origins[0]: must be an origin"),
        ("server: {allowed_hosts: ['http://x']}", "server.allowed_hosts[0]: must be a host name without scheme"),
        ("models: {aliases: {a: b}}", "models.aliases.a: must be a list, as [a, b], not 'b'"),
        ("models: {aliases: {'a:b': [1]}}", 'models.aliases["a:b"][0]: must be text; put it in quotes, not 1'),
        ("routing: {levels: {hard: []}}", "routing.levels.hard: there is no such key; there are: trivial, simple"),
        ("chat: {chain: []}", "chat.chain: must not be empty"),
        ("chat: {chain: [victora]}", "chat.chain[0]: must be one of ollama, vllm"),
        ("llm: {temperature: hot}", "llm.temperature: must be a number, not 'hot'"),
        ("llm: {max_tokens: 0}", "llm.max_tokens: must be at least 1, not 0"),
        ("llm: {mode: off}", "llm.mode: must be one of ollama, vllm, none, not 'false'"),
        ("llm: {providers: {vllm: {servers: [{name: a}]}}}", "llm.providers.vllm.servers[0].url: is missing"),
        ("llm: {providers: {vllm: {servers: {url: a}}}}", "llm.providers.vllm.servers: must be a list"),
        ("llm: {providers: {vllm: {max_concurrent: 0}}}", "llm.providers.vllm.max_concurrent: must be at least 1"),
        ("storage: {redis_url: 'http://x'}", "storage.redis_url: must begin with redis:// or rediss://"),
        ("auth: {roles: {root: {}}}", "auth.roles.root: there is no such key; there are: admin, priority, test_user"),
        ("notifications: {webhooks: [{url: x y}]}", "notifications.webhooks[0].url: has a space"),
    ],
)
def test_each_kind_of_mistake_is_told_in_words(place: Place, text: str, said: str) -> None:
    mistake = place.mistake(text)
    assert str(mistake).startswith(f"{place.folder / 'penstock.yaml'}:1: {said}")


def test_mistakes_are_told_in_the_order_of_the_lines(place: Place) -> None:
    text = "server:\n  prot: 1\n  host: 5\nllm:\n  mode: x\n  max_tokens: a\nqueue: 5\n"
    lines = [int(mistake.source.rpartition(":")[2]) for mistake in place.mistakes(text)]
    assert lines == [2, 3, 5, 6, 7]


def test_a_mistake_in_one_server_hides_no_mistake_in_another(place: Place) -> None:
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
    assert [mistake.path for mistake in place.mistakes(text)] == [
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
def test_no_mistake_repeats_a_secret(place: Place, text: str) -> None:
    for mistake in place.mistakes(text):
        assert "secret" not in mistake.message
        assert "topsecret" not in str(mistake)


def test_a_very_long_value_is_cut_in_the_message(place: Place) -> None:
    assert len(place.mistake(f"server: {{log_format: {'x' * 5000}}}").message) < 200


@pytest.mark.parametrize(
    ("written", "seconds"), [("90", 90), ("90.5", 90.5), ("'90s'", 90), ("10m", 600), ("1.5 h", 5400), ("250ms", 0.25)]
)
def test_times_are_seconds_or_durations(place: Place, written: str, seconds: float) -> None:
    assert place.load(f"server: {{keep_alive: {written}}}").server.keep_alive == seconds


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
def test_sizes_are_bytes_or_have_units(place: Place, written: str, size: int) -> None:
    assert place.load(f"server: {{max_body: {written}}}").server.max_body == size


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
def test_any_document_is_settings_or_mistakes_with_places(shared_place: Place, document: object) -> None:
    text = yaml.safe_dump({"llm": document, "server": document, "models": document})
    mistakes: tuple[ConfigError, ...] = ()
    try:
        shared_place.load(text)
    except SettingsError as error:
        mistakes = error.errors
    lines = [int(mistake.source.rpartition(":")[2]) for mistake in mistakes]
    assert lines == sorted(lines)
    assert set(lines) <= set(range(1, len(text.splitlines()) + 1))
