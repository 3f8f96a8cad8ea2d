"""Environment variables and the `.env` file: the variables that exist and the settings they make."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dotenv.parser import parse_stream

from penstock.config.errors import ConfigError, find_nearest
from penstock.config.kinds import URL_KEYS, Kinds
from penstock.config.located_values import LocatedValue, RawText, build_nested, merge_trees
from penstock.config.server_address import parse_server_address
from penstock.config.yaml_reader import expand_variables


@dataclass(frozen=True, slots=True)
class Variable:
    """An environment variable and the key that it sets.

    `configures`: the variable names a model, a model server or a provider, so that something is configured.
    """

    name: str
    path: str
    configures: bool = False


_GENERAL_VARIABLES = (
    Variable("PENSTOCK_PORT", "server.port"),
    Variable("VLLM_OLLAMA_PORT", "server.port"),
    Variable("PENSTOCK_HOST", "server.host"),
    Variable("PENSTOCK_OPEN", "server.open"),
    Variable("PENSTOCK_LOG_FORMAT", "server.log_format"),
    Variable("PENSTOCK_LOG_LEVEL", "server.log_level"),
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
"""In order of precedence: of two variables that set one key the later wins."""
OTHER_VARIABLES = ("OLLAMA_BASE_URLS", "OLLAMA_ORIGINS", "PENSTOCK_CONFIG")
"""Variables that are more than the value of one key."""
_PREFIX = "PENSTOCK_"


def list_variables(kinds: Kinds) -> tuple[Variable, ...]:
    """List the variables that set one key: the general ones, and the addresses that each kind of server declares."""
    addresses = (
        Variable(name, f"llm.providers.{kind}.{URL_KEYS.get(kind, 'url')}", configures=True)
        for kind, defaults in kinds.items()
        for name in defaults.url_variables
    )
    return (*_GENERAL_VARIABLES, *addresses)


class Environment:
    """Variables of the process over those of a `.env` file. An empty variable counts as not set."""

    def __init__(self, environ: Mapping[str, str], dotenv: Path, kinds: Kinds) -> None:
        self.errors: list[ConfigError] = []
        self.warnings: list[str] = []
        self._variables = list_variables(kinds)
        self._kinds = kinds
        self._environ = environ
        self._known = {*(variable.name for variable in self._variables), *OTHER_VARIABLES}
        self._dotenv: dict[str, str] = {}
        for name, value in self._parse_dotenv(dotenv):
            self._dotenv[name] = value
        self._warn_of_unknown_variables()

    def get(self, name: str) -> str | None:
        """Return the value of a variable, None when it is not set."""
        return self._environ.get(name, "").strip() or self._dotenv.get(name) or None

    def describe_source(self, name: str) -> str:
        """Return the source of a variable's value, in the form of `EffectiveValue.source`."""
        return f"environment {name}" if self._environ.get(name, "").strip() else f".env {name}"

    def has_configuration(self) -> bool:
        """Return True when a variable names a model, a model server or a provider."""
        names = [variable.name for variable in self._variables if variable.configures]
        return any(self.get(name) for name in (*names, "OLLAMA_BASE_URLS"))

    def build_tree(self, file_tree: LocatedValue) -> LocatedValue:
        """Build the settings that the variables make; `file_tree` is only compared with, to warn."""
        tree = LocatedValue({}, "default")
        for variable in self._variables:
            if value := self.get(variable.name):
                source = self.describe_source(variable.name)
                tree = merge_trees(tree, build_nested(variable.path.split("."), RawText(value), source))
        self._warn_of_different_addresses()
        if origins := self.get("OLLAMA_ORIGINS"):
            tree = merge_trees(tree, self._build_origins(origins, file_tree))
        if url_list := self.get("OLLAMA_BASE_URLS"):
            tree = merge_trees(self._build_ollama_servers(url_list), tree)
            if file_tree.find(("llm", "providers", "ollama", "additional_servers")):
                self.warnings.append(
                    "OLLAMA_BASE_URLS replaces llm.providers.ollama.additional_servers of the settings file."
                )
        return tree

    def _build_origins(self, origins: str, file_tree: LocatedValue) -> LocatedValue:
        """Build the origins of ``OLLAMA_ORIGINS``, Ollama's own variable, beside those of the settings file."""
        listed = file_tree.find(("server", "cors_origins"))
        kept = listed.to_plain() if listed is not None else []
        added = [RawText(origin.strip()) for origin in origins.split(",") if origin.strip()]
        values = [*(kept if isinstance(kept, list) else ()), *added]
        return build_nested(("server", "cors_origins"), values, self.describe_source("OLLAMA_ORIGINS"))

    def _build_ollama_servers(self, url_list: str) -> LocatedValue:
        """Build the servers of ``OLLAMA_BASE_URLS``, all of one priority.

        The first is the main one unless ``OLLAMA_URL`` is set.
        """
        urls = [url.strip() for url in url_list.split(";") if url.strip()]
        main = self.get("OLLAMA_URL")
        others = [url for url in urls if not self._is_same_address("ollama", url, main)] if main else urls[1:]
        servers = [{"url": RawText(url), "priority": "PRIMARY"} for url in others]
        ollama = {"base_url": RawText(urls[0]) if urls else None, "additional_servers": servers}
        return build_nested(("llm", "providers", "ollama"), ollama, self.describe_source("OLLAMA_BASE_URLS"))

    def _is_same_address(self, kind: str, one: str, other: str) -> bool:
        defaults = self._kinds[kind]
        try:
            return parse_server_address(defaults, one).identity == parse_server_address(defaults, other).identity
        except ValueError:
            return one == other

    def _warn_of_different_addresses(self) -> None:
        for kind, defaults in self._kinds.items():
            names = [name for name in defaults.url_variables if self.get(name)]
            for name in names[:-1]:
                if not self._is_same_address(kind, str(self.get(name)), str(self.get(names[-1]))):
                    self.warnings.append(
                        f"{name} and {names[-1]} differ. {names[-1]} is used; set only one of the two."
                    )

    def _warn_of_unknown_variables(self) -> None:
        known = [name.removeprefix(_PREFIX) for name in self._known if name.startswith(_PREFIX)]
        for name in sorted({*self._environ, *self._dotenv}):
            if name.startswith(_PREFIX) and name not in self._known and self.get(name):
                close = find_nearest(name.removeprefix(_PREFIX), known)
                hint = f' Did you mean "{_PREFIX}{close}"?' if close else ""
                self.warnings.append(f"The variable {name} is unknown and has no effect.{hint}")

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
            line = binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")
            if binding.error:
                self.warnings.append(f"{dotenv}:{line} is ignored: it does not have the form NAME=value.")
            elif binding.key and binding.value:
                try:
                    yield binding.key, expand_variables(binding.value, self.get).strip()
                except ValueError as error:
                    if binding.key in self._known:  # other variables are for other programs
                        self.errors.append(ConfigError(binding.key, f"file {dotenv}:{line}", str(error)))


def describe_read_error(error: OSError | UnicodeDecodeError) -> str:
    """Describe why a file cannot be read."""
    return str(error.strerror) if isinstance(error, OSError) else "it is not UTF-8 text"
