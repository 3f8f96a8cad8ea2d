"""The settings file: every section and key there is, with types, bounds and defaults.

A default of None means that the value follows from others; `penstock.config.resolve` says how.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from penstock.config import field_types as v
from penstock.config.located_values import RawText
from penstock.config.settings import Kind, LogFormat, Mode, PriorityName

Priority = Annotated[PriorityName, v.UpperCase]
LogLevel = Literal["debug", "info", "warning", "error"]
TaskName = Literal["chat", "factual", "explanation", "writing", "code", "math_reasoning", "transform"]
Concurrency = Annotated[v.Integer, Field(ge=1, le=100_000)]


class Section(BaseModel):
    """Keys under one name. A key without a value is a key that is not there."""

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
    """What can be said of one model server beside its address."""

    api_key: v.Secret | None = None
    priority: Priority | None = None
    max_concurrent: Concurrency | None = None
    models: list[v.Name] = []
    verify_tls: v.Trust = True
    timeout: v.Seconds | None = None


class ServerEntry(ServerOptions):
    """One of a list of model servers."""

    name: v.ServerName | None = None
    url: v.Url


class Ollama(ServerOptions):
    """The options are those of the server at `base_url`."""

    enabled: v.Flag | None = None
    base_url: v.Url | None = None
    fallback_urls: list[v.Url] = []
    additional_servers: list[ServerEntry] = []
    distributed_mode: v.Flag = True
    auto_discover: v.Flag = False
    discover_subnets: list[v.Subnet] = []


class Provider(ServerOptions):
    """The options are those of the server at `url`."""

    enabled: v.Flag | None = None
    url: v.Url | None = None
    servers: list[ServerEntry] = []


class Vllm(Provider):
    """Also the arguments of the `vllm serve` command."""

    model: v.Name | None = None
    gpu_memory_utilization: Annotated[v.Number, Field(gt=0, le=1)] = 0.95
    max_model_len: Annotated[v.Integer, Field(ge=1)] = 16384
    tensor_parallel_size: Annotated[v.Integer, Field(ge=1)] = 1
    enable_fp8: v.Flag = False
    use_flashinfer: v.Flag = True


class Providers(Section):
    """Model servers by the kind of program that they run."""

    ollama: Ollama = Ollama()
    vllm: Vllm = Vllm()
    llamacpp: Provider = Provider()
    mlx: Provider = Provider()
    openai: Provider = Provider()
    victoria: Provider = Provider()


class Llm(Section):
    """Models and where they run."""

    mode: Mode = "ollama"
    model: v.Name = "llama3.1:8b"
    timeout: v.PositiveSeconds = 240.0
    max_tokens: Annotated[v.Integer, Field(ge=1)] = 256
    temperature: Annotated[v.Number, Field(ge=0, le=2)] = 0.7
    stream: v.Flag = False
    allow_model_mismatch: v.Flag = False
    providers: Providers = Providers()


class Models(Section):
    """Names of models."""

    aliases: dict[str, list[v.Name]] = {}


class Levels(Section):
    """Models by preference for each level of complexity."""

    trivial: list[v.Name] = []
    simple: list[v.Name] = []
    moderate: list[v.Name] = []
    complex: list[v.Name] = []


class Routing(Section):
    """Which models to prefer for what."""

    levels: Levels = Levels()
    task_types: dict[TaskName, list[v.Name]] = {}
    under_cost: Annotated[float, Field(ge=0.1, le=100)] = 2.0
    resume: v.Flag = False
    hedge_after: v.Seconds = 0.0


class Queue(Section):
    """Bounds of the waiting line."""

    max_waiting: Annotated[v.Integer, Field(ge=0)] = 100
    max_waiting_per_user: Annotated[v.Integer, Field(ge=0)] = 10
    max_wait: v.PositiveSeconds = 600.0


class Role(Section):
    """Share and limits of one role; a limit that is not set is none."""

    weight: Annotated[v.Integer, Field(ge=1, le=1000)] | None = None
    requests_per_minute: Annotated[v.Integer, Field(ge=1)] | None = None
    tokens_per_day: Annotated[v.Integer, Field(ge=1)] | None = None
    tokens_per_month: Annotated[v.Integer, Field(ge=1)] | None = None
    max_concurrent: Concurrency | None = None
    models: list[v.Name] = []


class Roles(Section):
    """The three roles."""

    admin: Role = Role(weight=8)
    priority: Role = Role(weight=4)
    test_user: Role = Role(weight=1)


class Auth(Section):
    """Accounts."""

    access_token_seconds: v.PositiveSeconds = 900.0
    refresh_token_seconds: v.PositiveSeconds = 2_592_000.0
    audit_prompts: v.Flag = False
    secret_key: Annotated[str, Field(min_length=16)] | None = None
    roles: Roles = Roles()


class Storage(Section):
    """Where things are kept."""

    data_dir: v.FilePath | None = None
    database_url: Annotated[str, Field(pattern=r"^(sqlite|postgresql)(\+\w+)?://")] | None = None
    redis_url: Annotated[str, Field(pattern=r"^(redis|rediss|valkey|valkeys|unix)://")] | None = None


class Chat(Section):
    """Agent chat."""

    chain: Annotated[list[Kind], Field(min_length=1)] = ["victoria", "mlx"]


class Webhook(Section):
    """An address to tell."""

    url: v.Url
    events: list[v.Name] = []


class Notifications(Section):
    """Who is told when something happens."""

    webhooks: list[Webhook] = []


class Telemetry(Section):
    """Traces."""

    otlp_endpoint: v.Url | None = None
    service_name: v.Name = "penstock"


class Timeouts(Section):
    """Limits of a call to a model server; 0 is none, not set is as `llm.timeout` or, for `idle`, none."""

    connect: v.PositiveSeconds = 5.0
    first_byte: v.Seconds | None = None
    idle: v.Seconds | None = None
    total: v.Seconds | None = None


class Server(Section):
    """The gateway's own side."""

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
    timeouts: Timeouts = Timeouts()


class SettingsFile(Section):
    """The whole tree."""

    llm: Llm = Llm()
    models: Models = Models()
    routing: Routing = Routing()
    queue: Queue = Queue()
    auth: Auth = Auth()
    storage: Storage = Storage()
    chat: Chat = Chat()
    notifications: Notifications = Notifications()
    telemetry: Telemetry = Telemetry()
    server: Server = Server()


SECRETS = frozenset({"api_key", "secret_key"})
"""Keys whose values are never shown."""
