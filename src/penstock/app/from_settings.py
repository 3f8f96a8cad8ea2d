"""Translation of settings into the values that the parts of the gateway take."""

import math
import socket

from penstock import __version__
from penstock.config.settings import ServerSettings, Settings
from penstock.control.discovery.dns_sd import Announcement
from penstock.control.discovery.lan_search import LanSearchSettings
from penstock.domain.fleet import Priority, Server
from penstock.domain.request import Defaults
from penstock.gateway.routing.complexity.classifier import Classifier
from penstock.gateway.routing.policy import Policy, Preferences
from penstock.gateway.upstream.targets import Timeouts
from penstock.gateway.upstream.transport.pool import PoolLimits

UNUSED_PREFIXES = ("queue.", "auth.", "notifications.", "telemetry.", "storage.database_url", "storage.redis_url")
"""Settings that are validated but have no effect in this version."""


def build_servers(settings: Settings) -> tuple[Server, ...]:
    """Build the model servers."""
    return tuple(
        Server(
            name=server.name,
            kind=server.kind,
            urls=server.urls,
            priority=Priority[server.priority],
            max_concurrent=server.max_concurrent,
            api_key=server.api_key or "",
            credentials=server.credentials or "",
            verify_tls=server.verify_tls,
            is_configured=server.configured,
            models=server.models,
            setting=_find_address_setting(server, settings),
        )
        for server in settings.servers
    )


def _find_address_setting(server: ServerSettings, settings: Settings) -> str:
    """Find the setting of a server's address: the variable, or the key and its location in the file."""
    authority = server.urls[0].partition("://")[2]
    for key, entry in settings.effective_values.items():
        if key.startswith("llm.providers.") and "url" in key.rpartition(".")[2] and authority in entry.value:
            kind, _, location = entry.source.partition(" ")
            if kind in ("environment", ".env"):
                return location
            return f"{key} ({location})" if location else key
    return ""


def build_search(settings: Settings, port: int | None = None) -> LanSearchSettings:
    """Build the search for servers on the local network, and the announcement of this gateway.

    `port` is the port listened on, where it is known.
    """
    host, port = settings.server.host, port or settings.server.port
    announcement = None
    if settings.server.announce and port:
        addresses = () if host in ("0.0.0.0", "::", "") else (host,)
        properties = {"version": __version__, "path": "/v1"}
        instance = f"Penstock on {socket.gethostname()}"[:63]
        announcement = Announcement("_penstock._tcp", instance, port, addresses, properties)
    return LanSearchSettings(
        build_servers(settings), settings.auto_discover, settings.discover_subnets, announcement, port
    )


def build_policy(settings: Settings) -> Policy:
    """Build the routing policy."""
    mismatch = ""
    if settings.vllm.model and settings.llm.mode == "vllm" and settings.vllm.model != settings.llm.model:
        mismatch = (
            f"LLM_MODEL ({settings.llm.model}) and VLLM_MODEL ({settings.vllm.model}) differ, and vLLM serves the "
            "second. Set both to the same name."
        )
    return Policy(
        mode=settings.llm.mode,
        model=settings.llm.model,
        mismatch=mismatch,
        chain=settings.chat.chain,
        distributed=settings.distributed,
        preferences=Preferences.from_names(settings.routing.levels, settings.routing.task_types),
    )


def build_defaults(settings: Settings) -> Defaults:
    """Build the defaults of requests."""
    llm, routing = settings.llm, settings.routing
    return Defaults(
        model=llm.model,
        max_tokens=llm.max_tokens,
        temperature=llm.temperature,
        stream=llm.stream,
        distributed=settings.distributed,
        resume=routing.resume,
        hedge_after=routing.hedge_after,
    )


def build_timeouts(settings: Settings) -> dict[str, Timeouts]:
    """Build the timeouts by server name."""
    timeouts = {}
    for server in settings.servers:
        first_byte = server.timeouts.first_byte or math.inf
        idle, total = server.timeouts.idle or first_byte, server.timeouts.total or math.inf
        timeouts[server.name] = Timeouts(first_byte, idle, total)
    return timeouts


def build_classifier(settings: Settings) -> Classifier:
    """Build the classifier of requests."""
    return Classifier(settings.routing.under_cost)


def build_pool_limits(settings: Settings) -> PoolLimits:
    """Build the limits of the connections to model servers."""
    listen = settings.server
    return PoolLimits(connect_timeout=listen.timeouts.connect, max_connections=listen.max_connections)


def describe_unused_settings(settings: Settings) -> list[str]:
    """Describe each setting that the user has made and that has no effect in this version."""
    keys = [key for key, entry in settings.effective_values.items() if entry.source != "default"]
    return [
        f"{key} has no effect in version {__version__}; it is only validated."
        for key in sorted(keys)
        if key.startswith(UNUSED_PREFIXES)
    ]
