"""Draws the service API's pages about itself: what it is, how it is, which models and servers there are."""

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec

from penstock.api.models.views import build_model_entries, display_name
from penstock.dialects.timestamps import format_timestamp
from penstock.domain.fleet import Fleet, Priority, ServerStatus, State

ENDPOINTS: Mapping[str, str] = {
    "/": "GET: this page",
    "/health": "GET: how the service and each of its parts are",
    "/models": "GET: the models there are",
    "/chat": "POST {message}: an answer",
    "/stats": "GET: requests, tokens, times",
    "/api/v1/chat": "POST {message}: an answer, with how it was routed",
    "/api/models/servers": "GET: the model servers and their state",
    "/api/route": "POST {message}: where it would go and why, without an answer",
    "/api/decisions": "GET: where the last requests went and why",
    "/api/chat/send": "POST {content}: an agent's answer; also /stream, /plan, /status, /models",
    "/v1/chat/completions": "POST: OpenAI's API; also /v1/completions, /v1/embeddings, /v1/responses, /v1/models",
    "/v1/messages": "POST: Anthropic's API",
    "/api/chat": "POST: Ollama's API; also /api/generate, /api/embed, /api/tags, /api/show, /api/ps",
    "/docs": "GET: all of it, for people; /openapi.json for programs",
}

_DEFAULT_URLS = {"ollama": "http://localhost:11434", "vllm": "http://localhost:8000"}
"""Where the two providers that `/health` always shows are looked for when nothing says otherwise."""


def render_info(version: str, now: float, simulated: bool = False) -> bytes:
    """`GET /`. `now` is seconds since the epoch, here and below."""
    drawn: dict[str, Any] = {
        "service": "Penstock",
        "version": version,
        "description": "One address in front of your own model servers.",
        "endpoints": ENDPOINTS,
        "timestamp": format_timestamp(now),
    }
    return msgspec.json.encode(drawn | _simulated_field(simulated))


def render_health(fleet: Fleet, mode: str, now: float, monotonic: float, full: bool) -> tuple[int, bytes]:
    """`GET /health`: status code and body. `mode` is LLM_MODE; not `full`: statuses only, for strangers.

    200 while anything can answer, else 503 with each unreachable server, the address that was tried and what to do.
    """
    used = [status for status in fleet.statuses if _is_in_use(status)]
    answering = any(status.is_up and status.models for status in used)
    kinds = dict.fromkeys([*_DEFAULT_URLS, *(status.server.kind for status in used)])
    services = {kind: _render_service(kind, used, now - monotonic) for kind in kinds}
    overall = _summarize_status(mode, answering, services.values())
    if not full:
        services = {kind: {"status": service["status"]} for kind, service in services.items()}
    drawn: dict[str, Any] = {"status": overall, "services": services, "timestamp": format_timestamp(now)}
    if full:
        drawn |= _render_problems(mode, used or list(fleet.statuses), answering)
    code = 200 if answering and mode != "none" else 503
    return code, msgspec.json.encode(drawn | _simulated_field(fleet.is_simulated))


def render_models(fleet: Fleet, now: float) -> bytes:
    """`GET /models`: every model of the Ollama servers once; where there is no Ollama, of the servers there are."""
    used = [status for status in fleet.statuses if _is_in_use(status) and status.is_up]
    ollama = [status for status in used if status.server.kind == "ollama"]
    found = build_model_entries(ollama or used)
    drawn = {"status": "success", "models": found, "total_count": len(found), "timestamp": format_timestamp(now)}
    return msgspec.json.encode(drawn | _simulated_field(fleet.is_simulated))


def render_servers(fleet: Fleet, running: Mapping[str, int], now: float, monotonic: float) -> bytes:
    """`GET /api/models/servers`. `running` is calls in work by a server's name."""
    drawn = [_render_server(status, running.get(status.server.name, 0), now - monotonic) for status in fleet.statuses]
    up = sum(status.is_up for status in fleet.statuses)
    told = {"success": True, "servers": drawn, "total": len(drawn), "available": up, "timestamp": format_timestamp(now)}
    return msgspec.json.encode(told | _simulated_field(fleet.is_simulated))


def strip_credentials(url: str) -> str:
    """An address without credentials."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def choose_address(status: ServerStatus) -> str:
    """The address of a server that answered, else the main one."""
    return strip_credentials(status.url or status.server.url)


def render_problem(status: ServerStatus) -> dict[str, Any]:
    """A server that cannot be given work: the addresses that were tried, why, and what to do."""
    return {
        "server": status.server.name,
        "kind": status.server.kind,
        "url": choose_address(status),
        "tried": [strip_credentials(url) for url in status.server.urls],
        "error": _describe_error(status),
        "what_to_do": _suggest_remedy(status),
    }


def format_last_check(status: ServerStatus, offset: float) -> str | None:
    """When the last look was; `offset` is the epoch's seconds at monotonic 0."""
    return format_timestamp(status.checked_at + offset) if status.checked_at else None


def _is_in_use(status: ServerStatus) -> bool:
    """A default address that nobody asked for counts only when something is there."""
    return status.server.is_configured or status.state in (State.UP, State.LOADING)


def _simulated_field(simulated: bool) -> dict[str, Any]:
    return {"simulated": True} if simulated else {}


def _summarize_status(mode: str, answering: bool, services: Iterable[Mapping[str, Any]]) -> str:
    if mode == "none":
        return "disabled"
    if not answering:
        return "unhealthy"
    well = all(service["status"] in ("healthy", "disabled") for service in services)
    return "healthy" if well else "degraded"


def _render_service(kind: str, used: list[ServerStatus], offset: float) -> dict[str, Any]:
    """One provider's part of `/health`; Ollama's has the names that its document gives."""
    mine = [status for status in used if status.server.kind == kind]
    main = next((status for status in mine if status.is_up), mine[0]) if mine else None
    drawn: dict[str, Any] = {"status": _summarize_servers(mine)}
    drawn["ollama_url" if kind == "ollama" else "url"] = choose_address(main) if main else _DEFAULT_URLS.get(kind, "")
    names = sorted({display_name(model.name) for status in mine if status.is_up for model in status.models})
    if kind == "ollama":
        drawn |= {
            "available_models": names,
            "bge_m3_available": any(name.startswith("bge-m3") for name in names),
            "gpt_oss_available": any(name.startswith("gpt-oss") for name in names),
            "total_models": len(names),
        }
    elif main:
        drawn["available_models"] = names
    if main:
        drawn["response_time_ms"] = round(main.response_time * 1000, 1) if main.is_up else None
        drawn["last_check"] = format_last_check(main, offset)
        drawn["servers"] = {
            status.server.name: "healthy" if status.is_up else _describe_state(status) for status in mine
        }
    return drawn


def _summarize_servers(mine: list[ServerStatus]) -> str:
    if not mine:
        return "disabled"
    if all(status.is_up for status in mine):
        return "healthy"
    some = any(status.state in (State.UP, State.LOADING) for status in mine)
    return "degraded" if some else "unhealthy"


def _describe_state(status: ServerStatus) -> str:
    words = {State.LOADING: "loading", State.DRAINING: "draining"}
    return words.get(status.state, "unhealthy")


def _render_problems(mode: str, looked_at: list[ServerStatus], answering: bool) -> dict[str, Any]:
    """What is wrong, in words; nothing when all is well."""
    told: dict[str, Any] = {}
    down = [render_problem(status) for status in looked_at if not status.is_up]
    if mode == "none":
        told["message"] = "The language model is turned off (LLM_MODE=none): set LLM_MODE to ollama or vllm."
    elif not answering and any(status.is_up for status in looked_at):
        told["message"] = "A model server is up but has no model: get one, with `ollama pull llama3.1:8b` for Ollama."
    elif not answering:
        told["message"] = "No model server can be reached: see `problems` for the addresses tried and what to do."
    return told | ({"problems": down} if down else {})


def _describe_error(status: ServerStatus) -> str:
    if status.error or status.detail:
        return status.error or status.detail
    return "it is loading" if status.state is State.LOADING else "it has not been looked at yet"


def _suggest_remedy(status: ServerStatus) -> str:
    if status.state in (State.LOADING, State.UNKNOWN):
        return "Wait a moment: it is looked at again by itself."
    if status.state is State.DRAINING:
        return "It gets no new calls on purpose; enable it again when it is to have them."
    start = "Start it (`ollama serve`)" if status.server.kind == "ollama" else "Start it"
    return f"{start}, or set {status.server.setting or 'its url in penstock.yaml'} to the address where it runs."


def _render_server(status: ServerStatus, running: int, offset: float) -> dict[str, Any]:
    server = status.server
    return {
        "name": server.name,
        "url": choose_address(status),
        "kind": server.kind,
        "priority": Priority(server.priority).name,
        "state": status.state.value,
        "models": [display_name(model.name) for model in status.models],
        "loaded_models": [display_name(model.name) for model in status.models if model.is_loaded],
        "response_time_ms": round(status.response_time * 1000, 1) if status.is_up else None,
        "last_check": format_last_check(status, offset),
        "running": running,
        "waiting": 0,
        "slots": status.slots or server.max_concurrent,
        "version": status.version or None,
        "configured": server.is_configured,
        "last_error": status.error or None,
    } | _simulated_field(server.is_simulated)
