"""Where settings come from: the command line, over the environment, over the file, over the defaults."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dotenv.parser import parse_stream

from penstock.config.errors import Mistake, SettingsError, nearest
from penstock.config.located_values import Node, Text, branch, expand, merge, read_yaml
from penstock.config.model_servers import server_address
from penstock.config.resolve import Circumstances, default_data_dir, resolve
from penstock.config.settings import Settings
from penstock.config.validate import validate

USUAL_FILES = (Path("penstock.yaml"), Path("backend/config/config.yaml"))


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
_KNOWN = {*(variable.name for variable in VARIABLES), *OTHER_VARIABLES}


class Environment:
    """The process's variables over those of a `.env` file. An empty variable is one that is not set."""

    def __init__(self, environ: Mapping[str, str], dotenv: Path) -> None:
        self.mistakes: list[Mistake] = []
        self.warnings: list[str] = []
        self._environ = environ
        self._dotenv: dict[str, str] = {}
        for name, value in self._read(dotenv):
            self._dotenv[name] = value

    def get(self, name: str) -> str | None:
        """The value, None when it is not set."""
        return self._environ.get(name, "").strip() or self._dotenv.get(name) or None

    def source(self, name: str) -> str:
        """Where the value of `name` was said."""
        return f"environment {name}" if self._environ.get(name, "").strip() else f".env {name}"

    def names(self) -> set[str]:
        """The variables that are set."""
        return {name for name in {*self._environ, *self._dotenv} if self.get(name)}

    def _read(self, dotenv: Path) -> Iterator[tuple[str, str]]:
        try:
            with dotenv.open(encoding="utf-8-sig") as stream:
                bindings = list(parse_stream(stream))
        except FileNotFoundError:
            return
        except (OSError, UnicodeDecodeError) as error:
            self.mistakes.append(Mistake("", f"file {dotenv}", f"cannot be read: {_reason(error)}"))
            return
        for binding in bindings:
            text = binding.original.string
            place = f"{dotenv}:{binding.original.line + text[: len(text) - len(text.lstrip())].count(chr(10))}"
            if binding.error:
                self.warnings.append(f"{place} is not of the form NAME=value; it is left out")
            elif binding.key and binding.value:
                try:
                    yield binding.key, expand(binding.value, self.get).strip()
                except ValueError as error:
                    if binding.key in _KNOWN:  # the rest is for other programs
                        self.mistakes.append(Mistake(binding.key, f"file {place}", str(error)))


def load(
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
    mistakes = list(variables.mistakes)
    warnings = [*variables.warnings, *_unknown_variables(variables)]
    file_path, file_tree = _file(config, variables, directory, mistakes)
    tree = merge(file_tree, _environment_tree(variables, file_tree, warnings))
    for path, value in (overrides or {}).items():
        tree = merge(tree, branch(path.split("."), Text(value) if isinstance(value, str) else value, "command line"))
    if demo:
        tree = tree.without(("llm", "providers")).without(("llm", "mode"))
    configuring = [one.name for one in VARIABLES if one.configures] + ["OLLAMA_BASE_URLS"]
    around = Circumstances(
        data_dir=default_data_dir(environ),
        config_path=file_path,
        anything_configured=not demo and (file_path is not None or any(map(variables.get, configuring))),
        demo=demo,
        warnings=tuple(warnings),
    )
    file, valid_tree, wrong = validate(tree)
    settings, impossible = resolve(file, valid_tree, around)
    if mistakes := mistakes + sorted(wrong + impossible, key=_place):
        raise SettingsError(mistakes)
    return settings


def files_to_watch(config: Path | None, *, environ: Mapping[str, str], directory: Path = Path()) -> tuple[Path, ...]:
    """The file that `load` reads, or those it would read if they were there, in order of preference."""
    named = config or Environment(environ, directory / ".env").get("PENSTOCK_CONFIG")
    return (directory / named,) if named else tuple(directory / usual for usual in USUAL_FILES)


def _file(
    config: Path | None, variables: Environment, directory: Path, mistakes: list[Mistake]
) -> tuple[Path | None, Node]:
    named = config or variables.get("PENSTOCK_CONFIG")
    path = directory / named if named else None
    if path is None:
        path = next((directory / usual for usual in USUAL_FILES if (directory / usual).is_file()), None)
    if path is None:
        return None, Node({}, "default")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        said = "" if config else f" ({variables.source('PENSTOCK_CONFIG')})" if named else ""
        mistakes.append(Mistake("", f"file {path}", f"cannot be read: {_reason(error)}{said}"))
        return path, Node({}, "default")
    tree, wrong = read_yaml(text, path, variables.get)
    mistakes += wrong
    return path, tree


def _environment_tree(variables: Environment, file_tree: Node, warnings: list[str]) -> Node:
    tree = Node({}, "default")
    for variable in VARIABLES:
        if value := variables.get(variable.name):
            tree = merge(tree, branch(variable.path.split("."), Text(value), variables.source(variable.name)))
    first, second = variables.get("VLLM_URL"), variables.get("LLM_VLLM_URL")
    if first and second and not _same_place("vllm", first, second):
        warnings.append("VLLM_URL and LLM_VLLM_URL differ: LLM_VLLM_URL is used; set one of them only")
    if several := variables.get("OLLAMA_BASE_URLS"):
        tree = merge(_ollama_servers(several, variables), tree)
        if file_tree.find(("llm", "providers", "ollama", "additional_servers")):
            warnings.append("OLLAMA_BASE_URLS takes the place of llm.providers.ollama.additional_servers in the file")
    return tree


def _ollama_servers(several: str, variables: Environment) -> Node:
    """``OLLAMA_BASE_URLS`` lists servers of equal standing; the first is the main one unless ``OLLAMA_URL`` is set."""
    urls = [url.strip() for url in several.split(";") if url.strip()]
    main = variables.get("OLLAMA_URL")
    others = [url for url in urls if not _same_place("ollama", url, main)] if main else urls[1:]
    servers = [{"url": Text(url), "priority": "PRIMARY"} for url in others]
    ollama = {"base_url": Text(urls[0]) if urls else None, "additional_servers": servers}
    return branch(("llm", "providers", "ollama"), ollama, variables.source("OLLAMA_BASE_URLS"))


def _same_place(kind: str, one: str, other: str) -> bool:
    try:
        return server_address(kind, one).place == server_address(kind, other).place  # type: ignore[arg-type]
    except ValueError:
        return one == other


def _unknown_variables(variables: Environment) -> Iterator[str]:
    ours = [name.removeprefix(_PREFIX) for name in _KNOWN if name.startswith(_PREFIX)]
    for name in sorted(variables.names()):
        if name.startswith(_PREFIX) and name not in _KNOWN:
            close = nearest(name.removeprefix(_PREFIX), ours)
            yield f"the variable {name} means nothing here" + (f'; did you mean "{_PREFIX}{close}"?' if close else "")


def _place(mistake: Mistake) -> tuple[str, int]:
    file, _, line = mistake.source.rpartition(":")
    return (file, int(line)) if line.isdigit() else (mistake.source, 0)


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return str(error.strerror) if isinstance(error, OSError) else "it is not UTF-8 text"
