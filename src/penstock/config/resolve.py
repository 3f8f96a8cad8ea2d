"""From a valid settings file to effective settings: what follows from what, and what cannot go together."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from penstock.config import file_schema
from penstock.config.effective_values import Derived, describe_settings
from penstock.config.errors import ConfigError, format_key_path
from penstock.config.located_values import LocatedValue
from penstock.config.model_servers import ServerListBuilder
from penstock.config.server_address import is_loopback
from penstock.config.settings import (
    AuthSettings,
    ChatSettings,
    Kind,
    ListenSettings,
    LlmSettings,
    NotificationSettings,
    QueueSettings,
    RoleSettings,
    RoutingSettings,
    Settings,
    StorageSettings,
    TelemetrySettings,
    TimeoutSettings,
    VllmSettings,
    WebhookSettings,
)


@dataclass(frozen=True, slots=True)
class ResolveContext:
    """What the settings depend on beside themselves."""

    data_dir: Path
    config_path: Path | None = None
    anything_configured: bool = False
    demo: bool = False
    warnings: tuple[str, ...] = ()


def find_default_data_dir(environ: Mapping[str, str], platform: str = sys.platform) -> Path:
    """The platform's folder for what a user's programs keep."""
    home = Path(environ.get("HOME") or environ.get("USERPROFILE") or Path.home())
    if platform == "win32":
        return Path(environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "Penstock"
    if platform == "darwin":
        return home / "Library" / "Application Support" / "Penstock"
    base = environ.get("XDG_DATA_HOME", "")
    return Path(base if os.path.isabs(base) else home / ".local" / "share") / "penstock"  # noqa: PTH117


def resolve_settings(
    file: file_schema.SettingsFile, tree: LocatedValue, around: ResolveContext
) -> tuple[Settings, list[ConfigError]]:
    """The effective settings, and what in them cannot be."""
    return _Resolver(file, tree, around).build_settings()


class _Resolver:
    def __init__(self, file: file_schema.SettingsFile, tree: LocatedValue, around: ResolveContext) -> None:
        self._file = file
        self._tree = tree
        self._context = around
        self._errors: list[ConfigError] = []
        self._warnings = list(around.warnings)
        self._derived: Derived = {}

    def build_settings(self) -> tuple[Settings, list[ConfigError]]:
        file, around = self._file, self._context
        timeouts = self._resolve_timeouts()
        models = self._resolve_llm()
        fleet = ServerListBuilder(file, self._tree, timeouts, anything_configured=around.anything_configured)
        for kind, url in fleet.default_urls.items():
            self._record_derived(f"llm.providers.{kind}.{'base_url' if kind == 'ollama' else 'url'}", url)
        self._check_modes()
        self._check_bounds()
        ollama = file.llm.providers.ollama
        settings = Settings(
            storage=self._resolve_storage(),
            servers=tuple(fleet.servers),
            llm=models,
            vllm=self._resolve_vllm(models),
            server=self._resolve_listen(timeouts),
            aliases=_freeze_lists(file.models.aliases),
            distributed=ollama.distributed_mode,
            auto_discover=ollama.auto_discover and ollama.enabled is not False,
            discover_subnets=() if ollama.enabled is False else tuple(ollama.discover_subnets),
            anything_configured=around.anything_configured,
            demo=around.demo,
            routing=RoutingSettings(
                levels=_freeze_lists(
                    {name: names for name, names in file.routing.levels.model_dump().items() if names}
                ),
                task_types=_freeze_lists({str(name): names for name, names in file.routing.task_types.items()}),
                under_cost=file.routing.under_cost,
                resume=file.routing.resume,
                hedge_after=file.routing.hedge_after,
            ),
            queue=QueueSettings(**file.queue.model_dump()),
            auth=self._resolve_auth(),
            chat=ChatSettings(self._resolve_chain()),
            notifications=NotificationSettings(
                tuple(WebhookSettings(hook.url, tuple(hook.events)) for hook in file.notifications.webhooks)
            ),
            telemetry=TelemetrySettings(**file.telemetry.model_dump()),
            config_path=around.config_path,
            warnings=tuple(self._warnings),
            effective_values=MappingProxyType(describe_settings(file, self._tree, self._derived)),
        )
        return settings, self._errors + fleet.errors

    def _find_value(self, path: str) -> LocatedValue | None:
        return self._tree.find(path.split("."))

    def _add_error(self, path: str, message: str) -> None:
        keys = path.split(".")
        near = next((node for n in range(len(keys), 0, -1) if (node := self._tree.find(keys[:n]))), self._tree)
        self._errors.append(ConfigError(format_key_path(keys), near.source, message))

    def _record_derived(self, path: str, value: object, origin: str = "") -> None:
        """Remember for the record that the value of `path` follows from the key `origin`."""
        node = self._find_value(origin) if origin else None
        self._derived[path] = (value, node.source if node else "default")

    def _resolve_timeouts(self) -> TimeoutSettings:
        llm, said = self._file.llm, self._file.server.timeouts
        for name in ("first_byte", "total"):
            if getattr(said, name) is None:
                self._record_derived(f"server.timeouts.{name}", llm.timeout, "llm.timeout")
        total = llm.timeout if said.total is None else said.total
        first_byte = said.first_byte
        if first_byte is None:
            first_byte = min(llm.timeout, total) if total else llm.timeout
        for name, value in (("connect", said.connect), ("first_byte", first_byte), ("idle", said.idle)):
            if value and total and value > total and self._find_value(f"server.timeouts.{name}"):
                self._add_error(
                    f"server.timeouts.{name}",
                    f"is {value:g} s, longer than a whole answer may take "
                    f"({total:g} s, from {'server.timeouts.total' if said.total else 'llm.timeout'}); make it shorter",
                )
        return TimeoutSettings(said.connect, first_byte or None, said.idle or None, total or None)

    def _resolve_llm(self) -> LlmSettings:
        llm, vllm = self._file.llm, self._file.llm.providers.vllm
        model = llm.model
        if llm.mode == "vllm" and vllm.model:
            if not self._find_value("llm.model"):
                model = vllm.model
                self._record_derived("llm.model", model, "llm.providers.vllm.model")
            elif model != vllm.model:
                self._check_mismatch(model, vllm.model)
        return LlmSettings(llm.mode, model, llm.timeout, llm.max_tokens, llm.temperature, llm.stream)

    def _check_mismatch(self, asked: str, served: str) -> None:
        both = f'VLLM_MODEL (llm.providers.vllm.model) is "{served}" and LLM_MODEL (llm.model) is "{asked}"'
        if self._file.llm.allow_model_mismatch:
            self._warnings.append(f"{both}: requests that name no model will ask vLLM for one that it may not serve")
        else:
            self._add_error(
                "llm.providers.vllm.model",
                f"{both}: with LLM_MODE=vllm they must be the same; set one only, or PENSTOCK_ALLOW_MODEL_MISMATCH=1",
            )

    def _resolve_vllm(self, models: LlmSettings) -> VllmSettings:
        said = self._file.llm.providers.vllm
        model = said.model or (models.model if models.mode == "vllm" else "")
        if not said.model and model:
            self._record_derived("llm.providers.vllm.model", model, "llm.model")
        return VllmSettings(
            model=model,
            gpu_memory_utilization=said.gpu_memory_utilization,
            max_model_len=said.max_model_len,
            tensor_parallel_size=said.tensor_parallel_size,
            enable_fp8=said.enable_fp8,
            use_flashinfer=said.use_flashinfer,
        )

    def _resolve_listen(self, timeouts: TimeoutSettings) -> ListenSettings:
        said = self._file.server
        host = said.host.strip().strip("[]")
        return ListenSettings(
            host=host,
            port=said.port,
            max_body=said.max_body,
            log_file=said.log_file,
            log_format=said.log_format,
            log_level=said.log_level,
            allowed_hosts=tuple(said.allowed_hosts),
            cors_origins=tuple(said.cors_origins),
            open=said.open,
            announce=not is_loopback(host) if said.announce is None else said.announce,
            drain_seconds=said.drain_seconds,
            timeouts=timeouts,
            max_connections=said.max_connections,
            keep_alive=said.keep_alive,
        )

    def _resolve_storage(self) -> StorageSettings:
        said = self._file.storage
        if said.data_dir is None:
            self._record_derived("storage.data_dir", self._context.data_dir)
        return StorageSettings(said.data_dir or self._context.data_dir, said.database_url, said.redis_url)

    def _resolve_auth(self) -> AuthSettings:
        said = self._file.auth
        roles = {}
        for name, usual in (("admin", 8), ("priority", 4), ("test_user", 1)):
            role: file_schema.Role = getattr(said.roles, name)
            if role.weight is None:
                self._record_derived(f"auth.roles.{name}.weight", usual)
            roles[name] = RoleSettings(
                weight=role.weight or usual,
                requests_per_minute=role.requests_per_minute,
                tokens_per_day=role.tokens_per_day,
                tokens_per_month=role.tokens_per_month,
                max_concurrent=role.max_concurrent,
                models=tuple(role.models),
            )
        return AuthSettings(
            access_token_seconds=said.access_token_seconds,
            refresh_token_seconds=said.refresh_token_seconds,
            roles=MappingProxyType(roles),
            audit_prompts=said.audit_prompts,
            secret_key=said.secret_key,
        )

    def _resolve_chain(self) -> tuple[Kind, ...]:
        chain, providers = self._file.chat.chain, self._file.llm.providers
        off = [kind for kind in chain if getattr(providers, kind).enabled is False]
        if self._find_value("chat.chain"):
            if off:
                self._add_error("chat.chain", f"names {off[0]}, but llm.providers.{off[0]}.enabled is false")
            if len(set(chain)) < len(chain):
                self._add_error("chat.chain", "names a provider twice")
            if "ollama" in chain:
                self._add_error("chat.chain", "cannot have ollama: agent chat never asks Ollama")
        return tuple(kind for kind in dict.fromkeys(chain) if kind not in off)

    def _check_modes(self) -> None:
        mode = self._file.llm.mode
        if mode == "none" or not self._find_value("llm.mode"):
            return
        if getattr(self._file.llm.providers, mode).enabled is False:
            self._add_error("llm.mode", f"is {mode}, but llm.providers.{mode}.enabled is false; change one of them")

    def _check_bounds(self) -> None:
        queue, auth = self._file.queue, self._file.auth
        if queue.max_waiting_per_user > queue.max_waiting and self._find_value("queue"):
            self._add_error(
                "queue.max_waiting_per_user",
                f"is {queue.max_waiting_per_user}, more than queue.max_waiting ({queue.max_waiting}) for all together",
            )
        if auth.access_token_seconds > auth.refresh_token_seconds:
            self._add_error("auth.access_token_seconds", "is longer than auth.refresh_token_seconds")


def _freeze_lists(lists: Mapping[str, list[str]]) -> Mapping[str, tuple[str, ...]]:
    return MappingProxyType({name: tuple(names) for name, names in lists.items()})
