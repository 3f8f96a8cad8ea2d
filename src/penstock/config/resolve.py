"""Resolution of a valid settings file to effective settings: derived values and checks across keys."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from penstock.config import file_schema
from penstock.config.effective_values import Derived, describe_settings
from penstock.config.errors import ConfigError, format_key_path
from penstock.config.kinds import URL_KEYS, Kinds
from penstock.config.located_values import LocatedValue
from penstock.config.model_servers import ServerListBuilder
from penstock.config.server_address import is_loopback
from penstock.config.settings import (
    AuthSettings,
    ChatSettings,
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
    """Facts that settings depend on, beside the sources of settings."""

    kinds: Kinds
    data_dir: Path
    config_path: Path | None = None
    anything_configured: bool = False
    demo: bool = False
    warnings: tuple[str, ...] = ()


def find_default_data_dir(environ: Mapping[str, str], platform: str = sys.platform) -> Path:
    """Return the folder for the data of a user's programs on this platform."""
    home = Path(environ.get("HOME") or environ.get("USERPROFILE") or Path.home())
    if platform == "win32":
        return Path(environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "Penstock"
    if platform == "darwin":
        return home / "Library" / "Application Support" / "Penstock"
    base = environ.get("XDG_DATA_HOME", "")
    return Path(base if os.path.isabs(base) else home / ".local" / "share") / "penstock"  # noqa: PTH117


def resolve_settings(
    file: file_schema.SettingsFile, tree: LocatedValue, context: ResolveContext
) -> tuple[Settings, list[ConfigError]]:
    """Resolve the effective settings; return them with the errors found."""
    return _Resolver(file, tree, context).build_settings()


class _Resolver:
    def __init__(self, file: file_schema.SettingsFile, tree: LocatedValue, context: ResolveContext) -> None:
        self._file = file
        self._tree = tree
        self._context = context
        self._errors: list[ConfigError] = []
        self._warnings = list(context.warnings)
        self._derived: Derived = {}

    def build_settings(self) -> tuple[Settings, list[ConfigError]]:
        file, context = self._file, self._context
        timeouts = self._resolve_timeouts()
        llm = self._resolve_llm()
        builder = ServerListBuilder(
            file, self._tree, context.kinds, timeouts, anything_configured=context.anything_configured
        )
        for kind, url in builder.default_urls.items():
            self._record_derived(f"llm.providers.{kind}.{URL_KEYS.get(kind, 'url')}", url)
        self._check_modes()
        self._check_bounds()
        ollama = file.llm.providers.ollama
        settings = Settings(
            storage=self._resolve_storage(),
            servers=tuple(builder.servers),
            llm=llm,
            vllm=self._resolve_vllm(llm),
            server=self._resolve_listen(timeouts),
            aliases=_freeze_lists(file.models.aliases),
            distributed=ollama.distributed_mode,
            auto_discover=ollama.auto_discover and ollama.enabled is not False,
            discover_subnets=() if ollama.enabled is False else tuple(ollama.discover_subnets),
            anything_configured=context.anything_configured,
            demo=context.demo,
            routing=self._resolve_routing(),
            queue=QueueSettings(**file.queue.model_dump()),
            auth=self._resolve_auth(),
            chat=ChatSettings(self._resolve_chain()),
            notifications=NotificationSettings(
                tuple(WebhookSettings(hook.url, tuple(hook.events)) for hook in file.notifications.webhooks)
            ),
            telemetry=TelemetrySettings(**file.telemetry.model_dump()),
            config_path=context.config_path,
            warnings=tuple(self._warnings),
        )
        # Last, when every derived value is recorded.
        effective_values = MappingProxyType(describe_settings(file, self._tree, self._derived))
        return replace(settings, effective_values=effective_values), self._errors + builder.errors

    def _find_value(self, path: str) -> LocatedValue | None:
        return self._tree.find(path.split("."))

    def _add_error(self, path: str, message: str) -> None:
        keys = path.split(".")
        nearest = next((node for n in range(len(keys), 0, -1) if (node := self._tree.find(keys[:n]))), self._tree)
        self._errors.append(ConfigError(format_key_path(keys), nearest.source, message))

    def _record_derived(self, path: str, value: object, origin: str = "") -> None:
        """Record that the value of `path` follows from the key `origin`."""
        node = self._find_value(origin) if origin else None
        self._derived[path] = (value, node.source if node else "default")

    def _resolve_timeouts(self) -> TimeoutSettings:
        llm, section = self._file.llm, self._file.server.timeouts
        for name in ("first_byte", "total"):
            if getattr(section, name) is None:
                self._record_derived(f"server.timeouts.{name}", llm.timeout, "llm.timeout")
        total = llm.timeout if section.total is None else section.total
        first_byte = section.first_byte
        if first_byte is None:
            first_byte = min(llm.timeout, total) if total else llm.timeout
        for name, value in (("connect", section.connect), ("first_byte", first_byte), ("idle", section.idle)):
            if value and total and value > total and self._find_value(f"server.timeouts.{name}"):
                limit = "server.timeouts.total" if section.total else "llm.timeout"
                self._add_error(
                    f"server.timeouts.{name}",
                    f"is {value:g} s, more than the limit for a whole response ({limit}: {total:g} s); make it shorter",
                )
        return TimeoutSettings(section.connect, first_byte or None, section.idle or None, total or None)

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

    def _check_mismatch(self, requested: str, served: str) -> None:
        if self._file.llm.allow_model_mismatch:
            self._warnings.append(
                f'VLLM_MODEL (llm.providers.vllm.model) is "{served}" and LLM_MODEL (llm.model) is "{requested}". '
                "Requests that name no model go to vLLM with the second, which it may not serve."
            )
        else:
            self._add_error(
                "llm.providers.vllm.model",
                f'(VLLM_MODEL) is "{served}" and LLM_MODEL (llm.model) is "{requested}"; with LLM_MODE=vllm they must '
                "be the same: set only one of them, or PENSTOCK_ALLOW_MODEL_MISMATCH=1",
            )

    def _resolve_vllm(self, llm: LlmSettings) -> VllmSettings:
        section = self._file.llm.providers.vllm
        model = section.model or (llm.model if llm.mode == "vllm" else "")
        if not section.model and model:
            self._record_derived("llm.providers.vllm.model", model, "llm.model")
        return VllmSettings(
            model=model,
            gpu_memory_utilization=section.gpu_memory_utilization,
            max_model_len=section.max_model_len,
            tensor_parallel_size=section.tensor_parallel_size,
            enable_fp8=section.enable_fp8,
            use_flashinfer=section.use_flashinfer,
        )

    def _resolve_listen(self, timeouts: TimeoutSettings) -> ListenSettings:
        section = self._file.server
        host = section.host.strip().strip("[]")
        return ListenSettings(
            host=host,
            port=section.port,
            max_body=section.max_body,
            log_file=section.log_file,
            log_format=section.log_format,
            log_level=section.log_level,
            allowed_hosts=tuple(section.allowed_hosts),
            cors_origins=tuple(section.cors_origins),
            open=section.open,
            announce=not is_loopback(host) if section.announce is None else section.announce,
            drain_seconds=section.drain_seconds,
            timeouts=timeouts,
            max_connections=section.max_connections,
            keep_alive=section.keep_alive,
        )

    def _resolve_routing(self) -> RoutingSettings:
        section = self._file.routing
        return RoutingSettings(
            levels=_freeze_lists({name: models for name, models in section.levels.model_dump().items() if models}),
            task_types=_freeze_lists({str(name): models for name, models in section.task_types.items()}),
            under_cost=section.under_cost,
            resume=section.resume,
            hedge_after=section.hedge_after,
            list_auto=section.list_auto,
        )

    def _resolve_storage(self) -> StorageSettings:
        section = self._file.storage
        if section.data_dir is None:
            self._record_derived("storage.data_dir", self._context.data_dir)
        return StorageSettings(section.data_dir or self._context.data_dir, section.database_url, section.redis_url)

    def _resolve_auth(self) -> AuthSettings:
        section = self._file.auth
        roles = {}
        for name, default_weight in (("admin", 8), ("priority", 4), ("test_user", 1)):
            role: file_schema.RoleSection = getattr(section.roles, name)
            if role.weight is None:
                self._record_derived(f"auth.roles.{name}.weight", default_weight)
            roles[name] = RoleSettings(
                weight=role.weight or default_weight,
                requests_per_minute=role.requests_per_minute,
                tokens_per_day=role.tokens_per_day,
                tokens_per_month=role.tokens_per_month,
                max_concurrent=role.max_concurrent,
                models=tuple(role.models),
            )
        return AuthSettings(
            access_token_seconds=section.access_token_seconds,
            refresh_token_seconds=section.refresh_token_seconds,
            roles=MappingProxyType(roles),
            audit_prompts=section.audit_prompts,
            secret_key=section.secret_key,
        )

    def _resolve_chain(self) -> tuple[str, ...]:
        chain, providers = self._file.chat.chain, self._file.llm.providers
        disabled = [kind for kind in chain if providers.get_section(kind).enabled is False]
        if self._find_value("chat.chain"):
            if disabled:
                self._add_error("chat.chain", f"names {disabled[0]}, but llm.providers.{disabled[0]}.enabled is false")
            if len(set(chain)) < len(chain):
                self._add_error("chat.chain", "names a provider twice")
            if "ollama" in chain:
                self._add_error("chat.chain", "cannot contain ollama: agent chat never uses Ollama")
        return tuple(kind for kind in dict.fromkeys(chain) if kind not in disabled)

    def _check_modes(self) -> None:
        mode = self._file.llm.mode
        if mode == "none" or not self._find_value("llm.mode"):
            return
        if self._file.llm.providers.get_section(mode).enabled is False:
            self._add_error("llm.mode", f"is {mode}, but llm.providers.{mode}.enabled is false; change one of them")

    def _check_bounds(self) -> None:
        queue, auth = self._file.queue, self._file.auth
        if queue.max_waiting_per_user > queue.max_waiting and self._find_value("queue"):
            self._add_error(
                "queue.max_waiting_per_user",
                f"is {queue.max_waiting_per_user}, more than queue.max_waiting ({queue.max_waiting}) for all users",
            )
        if auth.access_token_seconds > auth.refresh_token_seconds:
            self._add_error("auth.access_token_seconds", "is longer than auth.refresh_token_seconds")


def _freeze_lists(lists: Mapping[str, list[str]]) -> Mapping[str, tuple[str, ...]]:
    return MappingProxyType({name: tuple(items) for name, items in lists.items()})
