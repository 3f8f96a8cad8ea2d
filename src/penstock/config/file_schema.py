"""Schema of the settings file: every section and key with its type, limits and default.

A default of None means that `penstock.config.resolve` derives the value from others. The sections of model servers
depend on the kinds that exist: `build_schema` creates them.
"""

from functools import cache
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from penstock.config import field_types as v
from penstock.config.located_values import RawText
from penstock.config.settings import LogFormat, Mode, PriorityName
from penstock.domain.fleet import AGENT_CHAIN

Priority = Annotated[PriorityName, v.UpperCase]
LogLevel = Literal["debug", "info", "warning", "error"]
TaskName = Literal["chat", "factual", "explanation", "writing", "code", "math_reasoning", "transform"]
"""Kinds of server that agent chat tries, in order."""
Concurrency = Annotated[v.Integer, Field(ge=1, le=100_000)]


class Section(BaseModel):
    """Base of all sections. A key without a value counts as not set."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, data: Any) -> Any:
        if data is None:
            return {}
        if not isinstance(data, dict):
            return data
        empty = {
            key for key, value in data.items() if value is None or (isinstance(value, RawText) and not value.strip())
        }
        return {key: value for key, value in data.items() if key not in empty or key not in cls.model_fields}


class ServerOptions(Section):
    """Options of one model server, its address excepted."""

    api_key: v.Secret | None = None
    priority: Priority | None = None
    max_concurrent: Concurrency | None = None
    models: list[v.Name] = []
    verify_tls: v.Trust = True
    timeout: v.Seconds | None = None


class ServerEntry(ServerOptions):
    """Entry in a list of model servers."""

    name: v.ServerName | None = None
    url: v.Url


class OllamaSection(ServerOptions):
    """Ollama servers. The options are those of the server at `base_url`."""

    enabled: v.Flag | None = None
    base_url: v.Url | None = None
    fallback_urls: list[v.Url] = []
    additional_servers: list[ServerEntry] = []
    distributed_mode: v.Flag = True
    include_localhost: v.Flag = True
    auto_discover: v.Flag = False
    discover_subnets: list[v.Subnet] = []


class ProviderSection(ServerOptions):
    """Servers of one kind. The options are those of the server at `url`."""

    enabled: v.Flag | None = None
    url: v.Url | None = None
    servers: list[ServerEntry] = []


class VllmSection(ProviderSection):
    """vLLM servers and the arguments of `vllm serve`."""

    model: v.Name | None = None
    gpu_memory_utilization: Annotated[v.Number, Field(gt=0, le=1)] = 0.95
    max_model_len: Annotated[v.Integer, Field(ge=1)] = 16384
    tensor_parallel_size: Annotated[v.Integer, Field(ge=1)] = 1
    enable_fp8: v.Flag = False
    use_flashinfer: v.Flag = True


class ProvidersSection(Section):
    """Model servers by kind. `build_schema` adds a `ProviderSection` for each kind that has no keys of its own."""

    ollama: OllamaSection = OllamaSection()
    vllm: VllmSection = VllmSection()

    def get_section(self, kind: str) -> OllamaSection | ProviderSection:
        """Return the section of a kind; raise AttributeError for an unknown one."""
        return cast("OllamaSection | ProviderSection", getattr(self, kind))


class LlmSection(Section):
    """Models and model servers."""

    mode: Mode = "ollama"
    model: v.Name = "llama3.1:8b"
    timeout: v.PositiveSeconds = 240.0
    max_tokens: Annotated[v.Integer, Field(ge=1)] = 256
    temperature: Annotated[v.Number, Field(ge=0, le=2)] = 0.7
    stream: v.Flag = False
    allow_model_mismatch: v.Flag = False
    providers: ProvidersSection = ProvidersSection()


class ModelsSection(Section):
    """Names of models."""

    aliases: dict[str, list[v.Name]] = {}


class LevelsSection(Section):
    """Preferred models for each level of complexity."""

    trivial: list[v.Name] = []
    simple: list[v.Name] = []
    moderate: list[v.Name] = []
    complex: list[v.Name] = []


class RoutingSection(Section):
    """Routing: preferred models, resumption and hedging."""

    levels: LevelsSection = LevelsSection()
    task_types: dict[TaskName, list[v.Name]] = {}
    under_cost: Annotated[float, Field(ge=0.1, le=100)] = 2.0
    resume: v.Flag = False
    hedge_after: v.Seconds = 0.0
    list_auto: v.Flag = True


class QueueSection(Section):
    """Limits of the admission queue."""

    max_waiting: Annotated[v.Integer, Field(ge=0)] = 100
    max_waiting_per_user: Annotated[v.Integer, Field(ge=0)] = 10
    max_wait: v.PositiveSeconds = 600.0


class RoleSection(Section):
    """Weight and limits of one role; without a value there is no limit."""

    weight: Annotated[v.Integer, Field(ge=1, le=1000)] | None = None
    requests_per_minute: Annotated[v.Integer, Field(ge=1)] | None = None
    tokens_per_day: Annotated[v.Integer, Field(ge=1)] | None = None
    tokens_per_month: Annotated[v.Integer, Field(ge=1)] | None = None
    max_concurrent: Concurrency | None = None
    models: list[v.Name] = []


class RolesSection(Section):
    """The three roles."""

    admin: RoleSection = RoleSection(weight=8)
    priority: RoleSection = RoleSection(weight=4)
    test_user: RoleSection = RoleSection(weight=1)


class AuthSection(Section):
    """Accounts."""

    access_token_seconds: v.PositiveSeconds = 900.0
    refresh_token_seconds: v.PositiveSeconds = 2_592_000.0
    audit_prompts: v.Flag = False
    secret_key: Annotated[str, Field(min_length=16)] | None = None
    roles: RolesSection = RolesSection()


class StorageSection(Section):
    """Storage locations."""

    data_dir: v.FilePath | None = None
    database_url: Annotated[str, Field(pattern=r"^(sqlite|postgresql)(\+\w+)?://")] | None = None
    redis_url: Annotated[str, Field(pattern=r"^(redis|rediss|valkey|valkeys|unix)://")] | None = None


class ChatSection(Section):
    """Agent chat. `build_schema` limits the chain to the kinds that exist."""

    chain: list[str] = [*AGENT_CHAIN]


class WebhookEntry(Section):
    """Address that receives events."""

    url: v.Url
    events: list[v.Name] = []


class NotificationsSection(Section):
    """Receivers of notifications."""

    webhooks: list[WebhookEntry] = []


class TelemetrySection(Section):
    """Export of traces."""

    otlp_endpoint: v.Url | None = None
    service_name: v.Name = "penstock"


class TimeoutsSection(Section):
    """Time limits of a request to a model server.

    0 means no limit; without a value the limit is `llm.timeout`, and none for `idle`.
    """

    connect: v.PositiveSeconds = 5.0
    first_byte: v.Seconds | None = None
    idle: v.Seconds | None = None
    total: v.Seconds | None = None


class ServerSection(Section):
    """The gateway itself."""

    host: v.Name = "127.0.0.1"
    port: Annotated[v.Integer, Field(ge=0, le=65535)] = 8005
    open: v.Flag = False
    announce: v.Flag | None = None
    max_body: v.Size = 32 * 1024 * 1024
    max_connections: Concurrency = 16384
    keep_alive: v.PositiveSeconds = 75.0
    drain_seconds: v.Seconds = 30.0
    allowed_hosts: list[v.HostName] = []
    cors_origins: list[v.Origin] = []
    log_level: Annotated[LogLevel, v.LowerCase] = "info"
    log_format: LogFormat = "text"
    log_file: v.FilePath | None = None
    timeouts: TimeoutsSection = TimeoutsSection()


class SettingsFile(Section):
    """The whole settings file."""

    llm: LlmSection = LlmSection()
    models: ModelsSection = ModelsSection()
    routing: RoutingSection = RoutingSection()
    queue: QueueSection = QueueSection()
    auth: AuthSection = AuthSection()
    storage: StorageSection = StorageSection()
    chat: ChatSection = ChatSection()
    notifications: NotificationsSection = NotificationsSection()
    telemetry: TelemetrySection = TelemetrySection()
    server: ServerSection = ServerSection()


@cache
def build_schema(kinds: tuple[str, ...]) -> type[SettingsFile]:
    """Create the schema of a settings file that can configure servers of these kinds."""
    plain_kinds = [kind for kind in kinds if kind not in ProvidersSection.model_fields]
    sections: dict[str, Any] = {kind: (ProviderSection, ProviderSection()) for kind in plain_kinds}
    providers = create_model("Providers", __base__=ProvidersSection, **sections)
    llm = create_model("Llm", __base__=LlmSection, providers=(providers, providers()))
    names: Any = Literal[kinds]
    chain = Annotated[list[names], Field(min_length=1)]
    chat = create_model("Chat", __base__=ChatSection, chain=(chain, [kind for kind in AGENT_CHAIN if kind in kinds]))
    return create_model("SettingsFile", __base__=SettingsFile, llm=(llm, llm()), chat=(chat, chat()))


SECRETS = frozenset({"api_key", "secret_key"})
"""Keys whose values are never displayed."""
