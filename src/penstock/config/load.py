"""Where settings come from: the command line, over the environment, over the file, over the defaults."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dotenv.parser import parse_stream

from penstock.config.errors import ConfigError, SettingsError, find_nearest
from penstock.config.located_values import LocatedValue, RawText, build_nested, expand_variables, merge_trees, read_yaml
from penstock.config.model_servers import parse_server_address
from penstock.config.resolve import ResolveContext, find_default_data_dir, resolve_settings
from penstock.config.settings import Settings
from penstock.config.validate import validate_tree

DEFAULT_FILES = (Path("penstock.yaml"), Path("backend/config/config.yaml"))


@dataclass(frozen=True, slots=True)
class Variable:
    """An environment variable and the key it sets. `configures`: it names a model, a model server or a provider."""

    name: str
    path: str
    configures: bool = False


VARIABLES = (
    Variable("PENSTOCK_PORT", "server.port"),
    Variable("VLLM_OLLAMA_PORT", "server.port"),
    Variable("PENSTOCK_HOST", "server.host"),
    Variable("PENSTOCK_OPEN", "server.open"),
    Variable("PENSTOCK_LOG_FORMAT", "server.log_format"),
    Variable("PENSTOCK_LOG_LEVEL", "server.log_level"),
    Variable("OLLAMA_URL", "llm.providers.ollama.base_url", configures=True),
    Variable("VLLM_URL", "llm.providers.vllm.url", configures=True),
    Variable("LLM_VLLM_URL", "llm.providers.vllm.url", configures=True),
    Variable("VICTORIA_URL", "llm.providers.victoria.url", configures=True),
    Variable("MLX_API_URL", "llm.providers.mlx.url", configures=True),
    Variable("LLM_MODE", "llm.mode", configures=True),
    Variable("LLM_MODEL", "llm.model", configures=True),
    Variable("LLM_TIMEOUT", "llm.timeout"),
    Variable("LLM_MAX_TOKENS", "llm.max_tokens"),
    Variable("LLM_TEMPERATURE", "llm.temperature"),
    Variable("LLM_STREAM_ENABLED", "llm.stream"),
    Variable("PENSTOCK_ALLOW_MODEL_MISMATCH", "llm.allow_model_mismatch"),
    Variable("VLLM_MODEL", "llm.providers.vllm.model", configures=True),
    Variable("VLLM_GPU_MEMORY_UTILIZATION", "llm.providers.vllm.gpu_memory_utilization"),
    Variable("VLLM_MAX_MODEL_LEN", "llm.providers.vllm.max_model_len"),
    Variable("VLLM_TENSOR_PARALLEL_SIZE", "llm.providers.vllm.tensor_parallel_size"),
    Variable("VLLM_ENABLE_FP8", "llm.providers.vllm.enable_fp8"),
    Variable("VLLM_USE_FLASHINFER", "llm.providers.vllm.use_flashinfer"),
    Variable("PENSTOCK_DATA_DIR", "storage.data_dir"),
    Variable("DATABASE_URL", "storage.database_url"),
    Variable("REDIS_URL", "storage.redis_url"),
    Variable("PENSTOCK_SECRET_KEY", "auth.secret_key"),
    Variable("OTEL_EXPORTER_OTLP_ENDPOINT", "telemetry.otlp_endpoint"),
    Variable("OTEL_SERVICE_NAME", "telemetry.service_name"),
)
"""In this order: of two that set one key the later wins."""
OTHER_VARIABLES = ("OLLAMA_BASE_URLS", "PENSTOCK_CONFIG")
_PREFIX = "PENSTOCK_"
KNOWN_VARIABLES = {*(variable.name for variable in VARIABLES), *OTHER_VARIABLES}


class Environment:
    """The process's variables over those of a `.env` file. An empty variable is one that is not set."""

    def __init__(self, environ: Mapping[str, str], dotenv: Path) -> None:
        self.errors: list[ConfigError] = []
        self.warnings: list[str] = []
        self._environ = environ
        self._dotenv: dict[str, str] = {}
        for name, value in self._parse_dotenv(dotenv):
            self._dotenv[name] = value

    def get(self, name: str) -> str | None:
        """The value, None when it is not set."""
        return self._environ.get(name, "").strip() or self._dotenv.get(name) or None

    def describe_source(self, name: str) -> str:
        """Where the value of `name` was said."""
        return f"environment {name}" if self._environ.get(name, "").strip() else f".env {name}"

    def list_names(self) -> set[str]:
        """The variables that are set."""
        return {name for name in {*self._environ, *self._dotenv} if self.get(name)}

    def _parse_dotenv(self, dotenv: Path) -> Iterator[tuple[str, str]]:
        try:
            with dotenv.open(encoding="utf-8-sig") as stream:
                bindings = list(parse_stream(stream))
        except FileNotFoundError:
            return
        except (OSError, UnicodeDecodeError) as error:
            self.errors.append(ConfigError("", f"file {dotenv}", f"cannot be read: {describe_read_error(error)}"))
            return
        for binding in bindings:
            text = binding.original.string
            place = f"{dotenv}:{binding.original.line + text[: len(text) - len(text.lstrip())].count(chr(10))}"
            if binding.error:
                self.warnings.append(f"{place} is not of the form NAME=value; it is left out")
            elif binding.key and binding.value:
                try:
                    yield binding.key, expand_variables(binding.value, self.get).strip()
                except ValueError as error:
                    if binding.key in KNOWN_VARIABLES:  # the rest is for other programs
                        self.errors.append(ConfigError(binding.key, f"file {place}", str(error)))


def load_settings(
    config: Path | None = None,
    overrides: Mapping[str, object] | None = None,
    *,
    demo: bool = False,
    environ: Mapping[str, str] | None = None,
    directory: Path = Path(),
) -> Settings:
    """Read everything and resolve it.

    `config` is the file the command line names, `overrides` are its other words by key path (``server.port``).
    `demo` leaves out every model server that is configured. Raises SettingsError with all mistakes at once.
    """
    environ = os.environ if environ is None else environ
    variables = Environment(environ, directory / ".env")
    mistakes = list(variables.errors)
    warnings = [*variables.warnings, *_warn_of_unknown_variables(variables)]
    file_path, file_tree = _read_file(config, variables, directory, mistakes)
    tree = merge_trees(file_tree, _build_environment_tree(variables, file_tree, warnings))
    for path, value in (overrides or {}).items():
        tree = merge_trees(
            tree, build_nested(path.split("."), RawText(value) if isinstance(value, str) else value, "command line")
        )
    if demo:
        tree = tree.copy_without(("llm", "providers")).copy_without(("llm", "mode"))
    configuring = [one.name for one in VARIABLES if one.configures] + ["OLLAMA_BASE_URLS"]
    around = ResolveContext(
        data_dir=find_default_data_dir(environ),
        config_path=file_path,
        anything_configured=not demo and (file_path is not None or any(map(variables.get, configuring))),
        demo=demo,
        warnings=tuple(warnings),
    )
    file, valid_tree, wrong = validate_tree(tree)
    settings, impossible = resolve_settings(file, valid_tree, around)
    if mistakes := mistakes + sorted(wrong + impossible, key=_reading_order):
        raise SettingsError(mistakes)
    return settings


def find_files_to_watch(
    config: Path | None, *, environ: Mapping[str, str], directory: Path = Path()
) -> tuple[Path, ...]:
    """The file that `load_settings` reads, or those it would read if they were there, in order of preference."""
    named = config or Environment(environ, directory / ".env").get("PENSTOCK_CONFIG")
    return (directory / named,) if named else tuple(directory / usual for usual in DEFAULT_FILES)


def _read_file(
    config: Path | None, variables: Environment, directory: Path, mistakes: list[ConfigError]
) -> tuple[Path | None, LocatedValue]:
    named = config or variables.get("PENSTOCK_CONFIG")
    path = directory / named if named else None
    if path is None:
        path = next((directory / usual for usual in DEFAULT_FILES if (directory / usual).is_file()), None)
    if path is None:
        return None, LocatedValue({}, "default")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        said = "" if config else f" ({variables.describe_source('PENSTOCK_CONFIG')})" if named else ""
        mistakes.append(ConfigError("", f"file {path}", f"cannot be read: {describe_read_error(error)}{said}"))
        return path, LocatedValue({}, "default")
    tree, wrong = read_yaml(text, path, variables.get)
    mistakes += wrong
    return path, tree


def _build_environment_tree(variables: Environment, file_tree: LocatedValue, warnings: list[str]) -> LocatedValue:
    tree = LocatedValue({}, "default")
    for variable in VARIABLES:
        if value := variables.get(variable.name):
            tree = merge_trees(
                tree, build_nested(variable.path.split("."), RawText(value), variables.describe_source(variable.name))
            )
    first, second = variables.get("VLLM_URL"), variables.get("LLM_VLLM_URL")
    if first and second and not _is_same_address("vllm", first, second):
        warnings.append("VLLM_URL and LLM_VLLM_URL differ: LLM_VLLM_URL is used; set one of them only")
    if several := variables.get("OLLAMA_BASE_URLS"):
        tree = merge_trees(_build_ollama_servers(several, variables), tree)
        if file_tree.find(("llm", "providers", "ollama", "additional_servers")):
            warnings.append("OLLAMA_BASE_URLS takes the place of llm.providers.ollama.additional_servers in the file")
    return tree


def _build_ollama_servers(several: str, variables: Environment) -> LocatedValue:
    """``OLLAMA_BASE_URLS`` lists servers of equal standing; the first is the main one unless ``OLLAMA_URL`` is set."""
    urls = [url.strip() for url in several.split(";") if url.strip()]
    main = variables.get("OLLAMA_URL")
    others = [url for url in urls if not _is_same_address("ollama", url, main)] if main else urls[1:]
    servers = [{"url": RawText(url), "priority": "PRIMARY"} for url in others]
    ollama = {"base_url": RawText(urls[0]) if urls else None, "additional_servers": servers}
    return build_nested(("llm", "providers", "ollama"), ollama, variables.describe_source("OLLAMA_BASE_URLS"))


def _is_same_address(kind: str, one: str, other: str) -> bool:
    try:
        return parse_server_address(kind, one).identity == parse_server_address(kind, other).identity  # type: ignore[arg-type]
    except ValueError:
        return one == other


def _warn_of_unknown_variables(variables: Environment) -> Iterator[str]:
    ours = [name.removeprefix(_PREFIX) for name in KNOWN_VARIABLES if name.startswith(_PREFIX)]
    for name in sorted(variables.list_names()):
        if name.startswith(_PREFIX) and name not in KNOWN_VARIABLES:
            close = find_nearest(name.removeprefix(_PREFIX), ours)
            yield f"the variable {name} means nothing here" + (f'; did you mean "{_PREFIX}{close}"?' if close else "")


def _reading_order(mistake: ConfigError) -> tuple[str, int]:
    file, _, line = mistake.source.rpartition(":")
    return (file, int(line)) if line.isdigit() else (mistake.source, 0)


def describe_read_error(error: OSError | UnicodeDecodeError) -> str:
    return str(error.strerror) if isinstance(error, OSError) else "it is not UTF-8 text"
