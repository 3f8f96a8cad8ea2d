"""The effective settings, resolved and checked: plain values that need no validation library to be read.

Times are seconds, sizes are bytes. A field that holds a secret is left out of the representation.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal, Never

Kind = Literal["ollama", "vllm", "llamacpp", "mlx", "openai", "victoria"]
PriorityName = Literal["PRIMARY", "SECONDARY", "FALLBACK"]
Mode = Literal["ollama", "vllm", "none"]
LogFormat = Literal["text", "json"]
LevelName = Literal["trivial", "simple", "moderate", "complex"]
RoleName = Literal["admin", "priority", "test_user"]


def _empty_mapping() -> Mapping[str, Never]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class EffectiveValue:
    """What one key is set to, as text with secrets masked, and where that was said."""

    value: str
    source: str
    """``command line``, ``environment NAME``, ``.env NAME``, ``file PATH:LINE`` or ``default``."""


@dataclass(frozen=True, slots=True)
class TimeoutSettings:
    """Limits of one call to a model server. None: no limit."""

    connect: float = 5.0
    first_byte: float | None = 240.0
    idle: float | None = None
    """Longest silence between two pieces of an answer."""
    total: float | None = 240.0


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """One model server. `urls` are addresses of that same server in the order to try them.

    A URL is ``scheme://host:port[/prefix]`` without credentials, trailing slash or ``/v1``; the port is left out
    only where it is https's own.
    """

    name: str
    kind: Kind
    urls: tuple[str, ...]
    priority: PriorityName = "PRIMARY"
    max_concurrent: int = 2
    configured: bool = True
    """False: a built-in default address that nobody asked for; it is probed, and counts only when it answers."""
    models: tuple[str, ...] = ()
    """Names that may be asked of this server; empty: all that it has."""
    verify_tls: bool | str = True
    """False: certificates are not checked. Text: path of a PEM file with the authorities to trust."""
    timeouts: TimeoutSettings = TimeoutSettings()
    """This server's own limits, resolved: agents may take longer than models."""
    api_key: str | None = field(default=None, repr=False)
    """Sent as a bearer token."""
    credentials: str | None = field(default=None, repr=False)
    """``user:password`` from the URL, sent as HTTP Basic; never together with `api_key`."""


@dataclass(frozen=True, slots=True)
class LlmSettings:
    """What `/chat` fills in where a request leaves it out."""

    mode: Mode = "ollama"
    model: str = "llama3.1:8b"
    timeout: float = 240.0
    max_tokens: int = 256
    temperature: float = 0.7
    stream: bool = False


@dataclass(frozen=True, slots=True)
class VllmSettings:
    """Arguments of `vllm serve`; `model` is empty when none is known."""

    model: str = ""
    gpu_memory_utilization: float = 0.95
    max_model_len: int = 16384
    tensor_parallel_size: int = 1
    enable_fp8: bool = False
    use_flashinfer: bool = True


@dataclass(frozen=True, slots=True)
class ListenSettings:
    """The gateway's own side: where it listens and what it lets in."""

    host: str = "127.0.0.1"
    port: int = 8005
    """0: any free port."""
    max_body: int = 32 * 1024 * 1024
    log_file: Path | None = None
    log_format: LogFormat = "text"
    log_level: str = "info"
    allowed_hosts: tuple[str, ...] = ()
    """`Host` names served beside loopback names and the listening address."""
    cors_origins: tuple[str, ...] = ()
    """Origins allowed beside this one and loopback; ``*``: all, never with credentials."""
    open: bool = False
    """Listen beyond loopback although there are no accounts."""
    announce: bool = False
    """Tell the local network of this gateway, by mDNS."""
    drain_seconds: float = 30.0
    timeouts: TimeoutSettings = TimeoutSettings()
    max_connections: int = 16384
    """Client connections at one time."""
    keep_alive: float = 75.0
    """An idle client connection is closed after this long."""


@dataclass(frozen=True, slots=True)
class RoutingSettings:
    """Models by preference for each level of complexity and each task type; no entry: the built-in choice.

    `under_cost` is how many times worse a model too small for a request is than one too large. `resume`: a stream whose
    server dies goes on on another. `hedge_after`: seconds without a first byte after which a second server is asked
    beside the first; 0: never.
    """

    levels: Mapping[str, tuple[str, ...]] = field(default_factory=_empty_mapping)
    task_types: Mapping[str, tuple[str, ...]] = field(default_factory=_empty_mapping)
    under_cost: float = 2.0
    resume: bool = False
    hedge_after: float = 0.0


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """Bounds of the waiting line."""

    max_waiting: int = 100
    max_waiting_per_user: int = 10
    max_wait: float = 600.0


@dataclass(frozen=True, slots=True)
class RoleSettings:
    """Share and limits of one role. None: no limit."""

    weight: int
    requests_per_minute: int | None = None
    tokens_per_day: int | None = None
    tokens_per_month: int | None = None
    max_concurrent: int | None = None
    models: tuple[str, ...] = ()
    """Empty: all."""


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """Accounts: how long tokens live, what each role may."""

    access_token_seconds: float = 900.0
    refresh_token_seconds: float = 30 * 86400.0
    roles: Mapping[str, RoleSettings] = field(default_factory=_empty_mapping)
    audit_prompts: bool = False
    secret_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """Where things are kept. No `database_url`: SQLite in `data_dir`. The URLs may hold passwords."""

    data_dir: Path
    database_url: str | None = field(default=None, repr=False)
    redis_url: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class ChatSettings:
    """Agent chat: the providers to ask, in order."""

    chain: tuple[Kind, ...] = ("victoria", "mlx")


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """An address that is told of events; no `events`: of all."""

    url: str = field(repr=False)
    events: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NotificationSettings:
    """Who is told when something happens."""

    webhooks: tuple[WebhookSettings, ...] = ()


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """Traces; no endpoint, no traces."""

    otlp_endpoint: str | None = None
    service_name: str = "penstock"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set, resolved. Made by `penstock.config.load.load`; never changed, only replaced."""

    storage: StorageSettings
    servers: tuple[ServerSettings, ...] = ()
    """Configured ones first, in the order of the file; then default addresses to be probed."""
    llm: LlmSettings = LlmSettings()
    vllm: VllmSettings = VllmSettings()
    server: ListenSettings = ListenSettings()
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=_empty_mapping)
    """A model's name to the other names of that same model."""
    distributed: bool = True
    """Distributed routing is wanted; with one server up it is ordinary mode all the same."""
    auto_discover: bool = False
    """Look for Ollama on the local network by mDNS and usual names."""
    discover_subnets: tuple[str, ...] = ()
    """Private address ranges (CIDR) to scan for Ollama."""
    anything_configured: bool = False
    """A file was read, or a variable names a model, a model server or a provider."""
    demo: bool = False
    """Simulated servers were asked for by name."""
    routing: RoutingSettings = RoutingSettings()
    queue: QueueSettings = QueueSettings()
    auth: AuthSettings = AuthSettings()
    chat: ChatSettings = ChatSettings()
    notifications: NotificationSettings = NotificationSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    config_path: Path | None = None
    """The file that was read."""
    warnings: tuple[str, ...] = ()
    """To be logged at the start: what is odd but not wrong."""
    effective_values: Mapping[str, EffectiveValue] = field(default_factory=_empty_mapping, repr=False, compare=False)
    """Key path, as ``server.port`` or ``llm.providers.vllm.servers[0].url``, to its value and source."""

    @property
    def data_dir(self) -> Path:
        """The folder of everything that Penstock keeps."""
        return self.storage.data_dir
