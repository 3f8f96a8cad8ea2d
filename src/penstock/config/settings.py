"""Effective settings, resolved and validated: plain values that need no validation library.

Times are seconds, sizes are bytes. A field that holds a secret is left out of the representation.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal, Never

from penstock.domain.fleet import AGENT_CHAIN

PriorityName = Literal["PRIMARY", "SECONDARY", "FALLBACK"]
Mode = Literal["ollama", "vllm", "none"]
LogFormat = Literal["text", "json"]
LevelName = Literal["trivial", "simple", "moderate", "complex"]
RoleName = Literal["admin", "priority", "test_user"]


def _empty_mapping() -> Mapping[str, Never]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class EffectiveValue:
    """Value of one key, as text with secrets masked, and its source."""

    value: str
    source: str
    """``command line``, ``environment NAME``, ``.env NAME``, ``file PATH:LINE`` or ``default``."""


@dataclass(frozen=True, slots=True)
class TimeoutSettings:
    """Time limits of one request to a model server. None: no limit."""

    connect: float = 5.0
    first_byte: float | None = 240.0
    idle: float | None = None
    """Longest pause between two parts of a response."""
    total: float | None = 240.0


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Settings of one model server. `urls` are addresses of that same server in the order to try them.

    A URL is ``scheme://host:port[/prefix]`` without credentials, trailing slash or ``/v1``; the port is left out
    only where it is the default of https.
    """

    name: str
    kind: str
    urls: tuple[str, ...]
    priority: PriorityName = "PRIMARY"
    max_concurrent: int = 2
    configured: bool = True
    """False: a default address that the user did not configure; it is probed and used only when it answers."""
    models: tuple[str, ...] = ()
    """Models that may be requested from this server; empty: all that it has."""
    verify_tls: bool | str = True
    """False: certificates are not verified. Text: path of a PEM file with the authorities to trust."""
    timeouts: TimeoutSettings = TimeoutSettings()
    """Limits of this server, resolved from the general ones and its own."""
    api_key: str | None = field(default=None, repr=False)
    """Bearer token to send."""
    credentials: str | None = field(default=None, repr=False)
    """``user:password`` from the URL, sent as HTTP Basic; never together with `api_key`."""


@dataclass(frozen=True, slots=True)
class LlmSettings:
    """Defaults of `/chat` for what a request leaves out."""

    mode: Mode = "ollama"
    model: str = "llama3.1:8b"
    timeout: float = 240.0
    max_tokens: int = 256
    temperature: float = 0.7
    stream: bool = False


@dataclass(frozen=True, slots=True)
class VllmSettings:
    """Arguments of `vllm serve`; `model` is empty when none is set."""

    model: str = ""
    gpu_memory_utilization: float = 0.95
    max_model_len: int = 16384
    tensor_parallel_size: int = 1
    enable_fp8: bool = False
    use_flashinfer: bool = True


@dataclass(frozen=True, slots=True)
class ListenSettings:
    """Listening address of the gateway and limits of its clients."""

    host: str = "127.0.0.1"
    port: int = 8005
    """0: any free port."""
    max_body: int = 32 * 1024 * 1024
    log_file: Path | None = None
    log_format: LogFormat = "text"
    log_level: str = "info"
    allowed_hosts: tuple[str, ...] = ()
    """`Host` names that are accepted in addition to loopback names and the listening address."""
    cors_origins: tuple[str, ...] = ()
    """Origins allowed in addition to this one and loopback; ``*``: all, never with credentials."""
    open: bool = False
    """Allow listening beyond loopback although there are no accounts."""
    announce: bool = False
    """Announce this gateway on the local network by mDNS."""
    drain_seconds: float = 30.0
    timeouts: TimeoutSettings = TimeoutSettings()
    max_connections: int = 16384
    """Maximum number of open client connections."""
    keep_alive: float = 75.0
    """Time after which an idle client connection is closed."""


@dataclass(frozen=True, slots=True)
class RoutingSettings:
    """Preferred models for each level of complexity and each task type; without an entry the model is chosen by size.

    `under_cost` is how many times worse a model too small for a request is than one too large. `resume`: continue a
    stream on another server when its server fails. `hedge_after`: seconds without a first byte after which the request
    is also sent to a second server; 0: never. `list_auto`: lists of models have `auto`.
    """

    levels: Mapping[str, tuple[str, ...]] = field(default_factory=_empty_mapping)
    task_types: Mapping[str, tuple[str, ...]] = field(default_factory=_empty_mapping)
    under_cost: float = 2.0
    resume: bool = False
    hedge_after: float = 0.0
    list_auto: bool = True


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """Limits of the admission queue."""

    max_waiting: int = 100
    max_waiting_per_user: int = 10
    max_wait: float = 600.0


@dataclass(frozen=True, slots=True)
class RoleSettings:
    """Weight and limits of one role. None: no limit."""

    weight: int
    requests_per_minute: int | None = None
    tokens_per_day: int | None = None
    tokens_per_month: int | None = None
    max_concurrent: int | None = None
    models: tuple[str, ...] = ()
    """Models that the role may use; empty: all."""


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """Lifetimes of tokens and limits of roles."""

    access_token_seconds: float = 900.0
    refresh_token_seconds: float = 30 * 86400.0
    roles: Mapping[str, RoleSettings] = field(default_factory=_empty_mapping)
    audit_prompts: bool = False
    secret_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """Storage locations. Without `database_url`: SQLite in `data_dir`. The URLs may hold passwords."""

    data_dir: Path
    database_url: str | None = field(default=None, repr=False)
    redis_url: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class ChatSettings:
    """Agent chat: the kinds of server to try, in order."""

    chain: tuple[str, ...] = AGENT_CHAIN


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """An address that receives events; without `events`: all of them."""

    url: str = field(repr=False)
    events: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NotificationSettings:
    """Receivers of notifications."""

    webhooks: tuple[WebhookSettings, ...] = ()


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """Export of traces; without an endpoint there are none."""

    otlp_endpoint: str | None = None
    service_name: str = "penstock"


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, resolved. Built by `load_settings`; never changed, only replaced."""

    storage: StorageSettings
    servers: tuple[ServerSettings, ...] = ()
    """Configured servers first, then default addresses to probe."""
    llm: LlmSettings = LlmSettings()
    vllm: VllmSettings = VllmSettings()
    server: ListenSettings = ListenSettings()
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=_empty_mapping)
    """Other names of a model by its name."""
    distributed: bool = True
    """Route among several servers; with one server it makes no difference."""
    auto_discover: bool = False
    """Search the local network for Ollama by mDNS and common host names."""
    discover_subnets: tuple[str, ...] = ()
    """Private address ranges (CIDR) to scan for Ollama."""
    anything_configured: bool = False
    """A file was read, or a variable names a model, a model server or a provider."""
    demo: bool = False
    """Simulated servers are requested by `penstock demo`."""
    routing: RoutingSettings = RoutingSettings()
    queue: QueueSettings = QueueSettings()
    auth: AuthSettings = AuthSettings()
    chat: ChatSettings = ChatSettings()
    notifications: NotificationSettings = NotificationSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    config_path: Path | None = None
    """The settings file that was read."""
    warnings: tuple[str, ...] = ()
    """Sentences to log at the start, about settings that are valid but unusual."""
    effective_values: Mapping[str, EffectiveValue] = field(default_factory=_empty_mapping, repr=False, compare=False)
    """Values and sources by key path, such as ``server.port`` or ``llm.providers.vllm.servers[0].url``."""

    @property
    def data_dir(self) -> Path:
        """Folder of the files that Penstock keeps."""
        return self.storage.data_dir
