"""Precedence of sources, variables, `.env`, and the choice of the settings file."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.config.environment import list_variables
from penstock.config.load import find_files_to_watch
from penstock.config.resolve import find_default_data_dir
from tests.support.settings_folder import KINDS, SettingsFolder, find_server, list_configured

VARIABLES = list_variables(KINDS)
PORT = st.none() | st.integers(1, 65535)


@given(line=PORT, variable=PORT, dotenv=PORT, file=PORT)
def test_sources_have_their_order_of_precedence(
    shared_folder: SettingsFolder, line: int | None, variable: int | None, dotenv: int | None, file: int | None
) -> None:
    shared_folder.write(f"VLLM_OLLAMA_PORT={dotenv or ''}\n", ".env")
    settings = shared_folder.load(
        f"server: {{port: {file}}}\n" if file else "",
        overrides={"server.port": line} if line else {},
        VLLM_OLLAMA_PORT=str(variable or ""),
    )
    sources = [
        (line, "command line"),
        (variable, "environment VLLM_OLLAMA_PORT"),
        (dotenv, ".env VLLM_OLLAMA_PORT"),
        (file, f"file {shared_folder.path / 'penstock.yaml'}:1"),
        (8005, "default"),
    ]
    port, source = next((value, source) for value, source in sources if value)
    assert settings.server.port == port
    assert (settings.effective_values["server.port"].value, settings.effective_values["server.port"].source) == (
        str(port),
        source,
    )


EXAMPLES = {
    "PENSTOCK_PORT": ("9001", "9001"),
    "VLLM_OLLAMA_PORT": ("9001", "9001"),
    "PENSTOCK_HOST": ("::1", "::1"),
    "PENSTOCK_OPEN": ("1", "true"),
    "PENSTOCK_LOG_FORMAT": ("json", "json"),
    "PENSTOCK_LOG_LEVEL": ("DEBUG", "debug"),
    "OLLAMA_URL": ("http://gpu:11434", "http://gpu:11434"),
    "VLLM_URL": ("http://gpu:8000/v1", "http://gpu:8000/v1"),
    "LLM_VLLM_URL": ("http://gpu:8001/v1", "http://gpu:8001/v1"),
    "VICTORIA_URL": ("http://agent:8010", "http://agent:8010"),
    "MLX_API_URL": ("http://mac:11435", "http://mac:11435"),
    "LLM_MODE": ("vllm", "vllm"),
    "LLM_MODEL": ("qwen3:14b", "qwen3:14b"),
    "LLM_TIMEOUT": ("90", "90"),
    "LLM_MAX_TOKENS": ("512", "512"),
    "LLM_TEMPERATURE": ("0.25", "0.25"),
    "LLM_STREAM_ENABLED": ("True", "true"),
    "PENSTOCK_ALLOW_MODEL_MISMATCH": ("yes", "true"),
    "VLLM_MODEL": ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
    "VLLM_GPU_MEMORY_UTILIZATION": ("0.5", "0.5"),
    "VLLM_MAX_MODEL_LEN": ("8192", "8192"),
    "VLLM_TENSOR_PARALLEL_SIZE": ("4", "4"),
    "VLLM_ENABLE_FP8": ("on", "true"),
    "VLLM_USE_FLASHINFER": ("false", "false"),
    "PENSTOCK_DATA_DIR": ("/srv/penstock", "/srv/penstock"),
    "DATABASE_URL": ("postgresql://u:secret@db/x", "postgresql://***@db/x"),
    "REDIS_URL": ("redis://:secret@cache:6379/0", "redis://***@cache:6379/0"),
    "PENSTOCK_SECRET_KEY": ("0123456789abcdef", "***"),
    "OTEL_EXPORTER_OTLP_ENDPOINT": ("http://collector:4318", "http://collector:4318"),
    "OTEL_SERVICE_NAME": ("gateway", "gateway"),
}


def test_every_variable_has_an_example_here() -> None:
    assert set(EXAMPLES) == {variable.name for variable in VARIABLES}


@pytest.mark.parametrize("variable", VARIABLES, ids=lambda variable: variable.name)
@pytest.mark.parametrize("where", ["environment", ".env"])
def test_a_variable_sets_its_key_and_is_named_as_the_source(
    folder: SettingsFolder, variable: object, where: str
) -> None:
    name, path = variable.name, variable.path  # type: ignore[attr-defined]
    value, expected = EXAMPLES[name]
    if where == ".env":
        folder.write(f"{name}={value}\n", ".env")
        settings = folder.load()
    else:
        settings = folder.load(**{name: value})
    assert settings.effective_values[path].value == expected
    assert settings.effective_values[path].source == f"{where} {name}"
    assert settings.anything_configured is variable.configures  # type: ignore[attr-defined]


@pytest.mark.parametrize("variable", VARIABLES, ids=lambda variable: variable.name)
def test_an_empty_variable_is_not_set(folder: SettingsFolder, variable: object) -> None:
    settings = folder.load(**{variable.name: "  "})  # type: ignore[attr-defined]
    assert settings == folder.load()


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("VLLM_OLLAMA_PORT", "80a", "must be an integer, not '80a'"),
        ("VLLM_OLLAMA_PORT", "8005.0", "must be an integer, not '8005.0'"),
        ("VLLM_OLLAMA_PORT", "70000", "must be at most 65535, not '70000'"),
        ("LLM_TIMEOUT", "soon", "must be a number, not 'soon'"),
        ("LLM_TIMEOUT", "0", "must be more than 0, not '0'"),
        ("LLM_TIMEOUT", "nan", "must be a number, not 'nan'"),
        ("LLM_TEMPERATURE", "-1", "must be at least 0, not '-1'"),
        ("LLM_STREAM_ENABLED", "maybe", "must be true or false, not 'maybe'"),
        ("LLM_MODE", "VLLM", "must be one of ollama, vllm, none, not 'VLLM'; did you mean \"vllm\"?"),
        ("LLM_MODE", "off", "must be one of ollama, vllm, none, not 'off'"),
        ("OLLAMA_URL", "ftp://x", "must begin with http:// or https://, not 'ftp://x'"),
        ("VLLM_GPU_MEMORY_UTILIZATION", "95", "must be at most 1, not '95'"),
        ("DATABASE_URL", "mysql://u:pw@h/d", "must begin with postgresql:// or sqlite://"),
        ("PENSTOCK_SECRET_KEY", "short", "must have at least 16 characters"),
    ],
)
def test_a_wrong_variable_stops_the_start_with_its_name_and_key(
    folder: SettingsFolder, name: str, value: str, reason: str
) -> None:
    error = folder.load_error(**{name: value})
    assert error.source == f"environment {name}"
    assert error.message == reason
    assert error.path == next(variable.path for variable in VARIABLES if variable.name == name)


def test_all_errors_are_reported_at_once_whatever_their_source(folder: SettingsFolder) -> None:
    errors = folder.load_errors("server:\n  prot: 1\nllm:\n  mode: vlm\n", LLM_TIMEOUT="x", OLLAMA_URL="a b")
    assert [error.path for error in errors] == [
        "llm.timeout",
        "llm.providers.ollama.base_url",
        "server.prot",
        "llm.mode",
    ]


def test_nothing_configured_leaves_the_usual_addresses_to_be_probed(folder: SettingsFolder) -> None:
    settings = folder.load()
    assert not settings.anything_configured
    assert settings.config_path is None
    assert {server.kind: server.urls for server in settings.servers} == {
        "ollama": ("http://localhost:11434",),
        "vllm": ("http://localhost:8000",),
        "llamacpp": ("http://localhost:8080",),
        "mlx": ("http://localhost:11435",),
        "victoria": ("http://localhost:8010",),
    }
    assert list_configured(settings) == []


@pytest.mark.parametrize(
    "variables",
    [
        {"VLLM_OLLAMA_PORT": "9000"},
        {"PENSTOCK_HOST": "127.0.0.1"},
        {"LLM_TIMEOUT": "5"},
        {"PENSTOCK_DATA_DIR": "/x"},
        {"PENSTOCK_OPEN": "1"},
    ],
)
def test_a_port_or_a_host_alone_configures_nothing(folder: SettingsFolder, variables: dict[str, str]) -> None:
    assert not folder.load(**variables).anything_configured
    assert not folder.load(overrides={"server.port": 1, "server.host": "127.0.0.1"}).anything_configured


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "server: {port: 9000}\n", "llm: {}\n"])
def test_any_file_counts_as_configuration(folder: SettingsFolder, text: str) -> None:
    assert folder.load(text).anything_configured


def test_demo_leaves_out_every_configured_model_server(folder: SettingsFolder) -> None:
    settings = folder.load(
        "llm: {mode: none, providers: {openai: {url: 'https://api.example.com', api_key: k}}}\nserver: {port: 9000}\n",
        demo=True,
        OLLAMA_URL="http://gpu",
    )
    assert settings.demo
    assert not settings.anything_configured
    assert list_configured(settings) == []
    assert settings.server.port == 9000


def test_the_command_line_precedes_variables_and_usual_paths_in_the_choice_of_file(folder: SettingsFolder) -> None:
    usual = folder.write("server: {port: 1}\n", "backend/config/config.yaml")
    assert folder.load().config_path == usual
    first = folder.write("server: {port: 2}\n", "penstock.yaml")
    assert folder.load().config_path == first
    named = folder.write("server: {port: 3}\n", "other.yaml")
    assert folder.load(PENSTOCK_CONFIG="other.yaml").server.port == 3
    assert folder.load(PENSTOCK_CONFIG=str(named)).config_path == named
    asked = folder.write("server: {port: 4}\n", "asked.yaml")
    assert folder.load(config=asked, PENSTOCK_CONFIG="other.yaml").server.port == 4


def test_the_files_to_watch_are_the_one_that_is_named_or_the_usual_ones(folder: SettingsFolder) -> None:
    folder = folder.path
    assert find_files_to_watch(Path("a.yaml"), environ={}, directory=folder) == (folder / "a.yaml",)
    assert find_files_to_watch(None, environ={"PENSTOCK_CONFIG": "b.yaml"}, directory=folder) == (folder / "b.yaml",)
    assert find_files_to_watch(None, environ={}, directory=folder) == (
        folder / "penstock.yaml",
        folder / "backend/config/config.yaml",
    )


def test_a_named_file_that_is_missing_stops_the_start(folder: SettingsFolder) -> None:
    assert "cannot be read: No such file" in str(folder.load_error(config=folder.path / "no.yaml"))  # type: ignore[arg-type]
    assert str(folder.load_error(PENSTOCK_CONFIG="no.yaml")).endswith("(environment PENSTOCK_CONFIG).")


def test_a_folder_or_bytes_in_place_of_the_file_stop_the_start(folder: SettingsFolder) -> None:
    assert "cannot be read" in str(folder.load_error(config=folder.path))  # type: ignore[arg-type]
    binary = folder.path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00a")
    assert "it is not UTF-8 text" in str(folder.load_error(config=binary))  # type: ignore[arg-type]


def test_a_byte_order_mark_is_ignored(folder: SettingsFolder) -> None:
    (folder.path / "penstock.yaml").write_bytes(b"\xef\xbb\xbfserver: {port: 9}\n")
    assert folder.load().server.port == 9


def test_russian_text_in_file_and_dotenv_is_read(folder: SettingsFolder) -> None:
    folder.write("LLM_MODEL=модель  # Переключение на другую модель\n", ".env")
    settings = folder.load("# Основной сервер\nmodels: {aliases: {модель: [qwen3]}}\n")
    assert settings.llm.model == "модель"
    assert settings.aliases == {"модель": ("qwen3",)}


def test_dotenv_understands_quotes_comments_exports_and_references(folder: SettingsFolder) -> None:
    folder.write(
        "# comment\nexport LLM_MODE=vllm  # note\nLLM_MODEL='a/b'\nVLLM_MODEL=${LLM_MODEL}\nLLM_TIMEOUT=\"90\"\n\n",
        ".env",
    )
    settings = folder.load()
    assert (settings.llm.mode, settings.llm.model, settings.vllm.model, settings.llm.timeout) == (
        "vllm",
        "a/b",
        "a/b",
        90,
    )


def test_variables_of_other_programs_in_dotenv_are_ignored(folder: SettingsFolder) -> None:
    folder.write("PASSWORD=pa${ss\nOTHER=${UNSET}\nnot a line\nLLM_TIMEOUT=60\n", ".env")
    settings = folder.load()
    assert settings.llm.timeout == 60
    assert [warning.partition(".env")[2] for warning in settings.warnings] == [
        ":3 is ignored: it does not have the form NAME=value."
    ]


def test_an_unresolved_reference_in_dotenv_is_an_error_for_our_variables(folder: SettingsFolder) -> None:
    folder.write("\nLLM_MODEL=${MODEL_OF_THE_DAY}\n", ".env")
    assert str(folder.load_error()).startswith(
        f"{folder.path / '.env'}:2: LLM_MODEL needs the variable MODEL_OF_THE_DAY"
    )


def test_the_file_sees_variables_of_the_environment_and_of_dotenv(folder: SettingsFolder) -> None:
    folder.write("SCHEME=https\nNAME=dotenv\n", ".env")
    settings = folder.load("llm: {model: '${SCHEME}-${NAME}-${MORE:-d}'}\n", NAME="environment")
    assert settings.llm.model == "https-environment-d"


def test_a_reference_may_stand_for_a_number_or_a_flag_or_text(folder: SettingsFolder) -> None:
    text = "server:\n  port: ${P}\n  open: '${O}'\nllm:\n  model: ${P}\n  timeout: \"${T:-90}\"\n"
    settings = folder.load(text, P="9000", O="true")
    assert (settings.server.port, settings.server.open, settings.llm.model, settings.llm.timeout) == (
        9000,
        True,
        "9000",
        90,
    )


def test_an_optional_key_whose_reference_is_empty_is_not_set(folder: SettingsFolder) -> None:
    settings = folder.load("llm: {providers: {openai: {servers: [{url: 'http://x:1', api_key: '${KEY:-}'}]}}}\n")
    assert find_server(settings, "openai").api_key is None


def test_a_misspelt_variable_with_our_prefix_causes_a_warning(folder: SettingsFolder) -> None:
    settings = folder.load(PENSTOCK_DATADIR="/x", PENSTOCK_ZZZ="1", UNRELATED="1")
    assert settings.warnings == (
        'The variable PENSTOCK_DATADIR is unknown and has no effect. Did you mean "PENSTOCK_DATA_DIR"?',
        "The variable PENSTOCK_ZZZ is unknown and has no effect.",
    )


@pytest.mark.parametrize(
    ("platform", "environ", "folder"),
    [
        ("linux", {"HOME": "/h"}, "/h/.local/share/penstock"),
        ("linux", {"HOME": "/h", "XDG_DATA_HOME": "/d"}, "/d/penstock"),
        ("linux", {"HOME": "/h", "XDG_DATA_HOME": "relative"}, "/h/.local/share/penstock"),
        ("darwin", {"HOME": "/h"}, "/h/Library/Application Support/Penstock"),
        ("win32", {"USERPROFILE": "/u", "LOCALAPPDATA": "/l"}, "/l/Penstock"),
        ("win32", {"USERPROFILE": "/u"}, "/u/AppData/Local/Penstock"),
    ],
)
def test_the_data_folder_is_at_the_usual_place_of_the_platform(
    platform: str, environ: dict[str, str], folder: str
) -> None:
    assert find_default_data_dir(environ, platform) == Path(folder)
