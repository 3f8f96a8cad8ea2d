"""Response bodies of the service API about itself: description, health, models and servers."""

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec

from penstock.api.models.views import build_model_entries, display_name
from penstock.dialects.timestamps import format_timestamp
from penstock.domain.fleet import Fleet, Priority, ServerStatus, State

ENDPOINTS: Mapping[str, str] = {
    "/": "GET: this description",
    "/health": "GET: health of the service and of each model server",
    "/models": "GET: list of models",
    "/chat": "POST {message}: a response",
    "/stats": "GET: requests, tokens, latencies",
    "/api/v1/chat": "POST {message}: a response, with how it was routed",
    "/api/models/servers": "GET: model servers and their state",
    "/api/route": "POST {message}: where it would be routed and why, without a response",
    "/api/decisions": "GET: where the last requests were routed and why",
    "/api/chat/send": "POST {content}: the response of an agent; also /stream, /plan, /status, /models",
    "/v1/chat/completions": "POST: OpenAI's API; also /v1/completions, /v1/embeddings, /v1/responses, /v1/models",
    "/v1/messages": "POST: Anthropic's API",
    "/api/chat": "POST: Ollama's API; also /api/generate, /api/embed, /api/tags, /api/show, /api/ps",
    "/docs": "GET: documentation of the whole API; /openapi.json for programs",
}

_DEFAULT_URLS = {"ollama": "http://localhost:11434", "vllm": "http://localhost:8000"}
"""Default addresses of the two providers that `/health` always shows."""


def render_info(version: str, now: float, *, is_simulated: bool = False) -> bytes:
    """Render `GET /`. `now` is in seconds since the epoch, here and below."""
    body: dict[str, Any] = {
        "service": "Penstock",
        "version": version,
        "description": "One address in front of your own model servers.",
        "endpoints": ENDPOINTS,
        "timestamp": format_timestamp(now),
    }
    return msgspec.json.encode(body | _simulated_field(is_simulated))


def render_health(fleet: Fleet, mode: str, now: float, monotonic: float, *, full: bool) -> tuple[int, bytes]:
    """Render `GET /health`; return status code and body. `mode` is LLM_MODE; without `full` only statuses are shown.

    The status is 200 while any server can answer, else 503 with each unreachable server, the addresses that were tried
    and what to do.
    """
    used = [status for status in fleet.statuses if _is_in_use(status)]
    can_answer = any(status.is_up and status.models for status in used)
    kinds = dict.fromkeys([*_DEFAULT_URLS, *(status.server.kind for status in used)])
    services = {kind: _render_service(kind, used, now - monotonic) for kind in kinds}
    overall = _summarize_status(mode, can_answer, services.values())
    if not full:
        services = {kind: {"status": service["status"]} for kind, service in services.items()}
    body: dict[str, Any] = {"status": overall, "services": services, "timestamp": format_timestamp(now)}
    if full:
        body |= _render_problems(mode, used or list(fleet.statuses), can_answer)
    code = 200 if can_answer and mode != "none" else 503
    return code, msgspec.json.encode(body | _simulated_field(fleet.is_simulated))


def render_models(fleet: Fleet, now: float) -> bytes:
    """Render `GET /models`: every model of the Ollama servers, or of all servers when none is an Ollama."""
    used = [status for status in fleet.statuses if _is_in_use(status) and status.is_up]
    ollama = [status for status in used if status.server.kind == "ollama"]
    entries = build_model_entries(ollama or used)
    body = {"status": "success", "models": entries, "total_count": len(entries), "timestamp": format_timestamp(now)}
    return msgspec.json.encode(body | _simulated_field(fleet.is_simulated))


def render_servers(fleet: Fleet, running: Mapping[str, int], now: float, monotonic: float) -> bytes:
    """Render `GET /api/models/servers`. `running` is the number of running requests by server name."""
    offset = now - monotonic
    entries = [_render_server(each, running.get(each.server.name, 0), offset) for each in fleet.statuses]
    up = sum(status.is_up for status in fleet.statuses)
    body = {
        "success": True,
        "servers": entries,
        "total": len(entries),
        "available": up,
        "timestamp": format_timestamp(now),
    }
    return msgspec.json.encode(body | _simulated_field(fleet.is_simulated))


def strip_credentials(url: str) -> str:
    """Return a URL without credentials."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def choose_address(status: ServerStatus) -> str:
    """Return the address at which a server responded, else its main one."""
    return strip_credentials(status.url or status.server.url)


def render_problem(status: ServerStatus) -> dict[str, Any]:
    """Render the problem of an unavailable server: the addresses that were tried, the error, and what to do."""
    return {
        "server": status.server.name,
        "kind": status.server.kind,
        "url": choose_address(status),
        "tried": [strip_credentials(url) for url in status.server.urls],
        "error": _describe_error(status),
        "what_to_do": _suggest_remedy(status),
    }


def format_last_check(status: ServerStatus, offset: float) -> str | None:
    """Format the time of the last health check; `offset` is the time since the epoch at monotonic 0, in seconds."""
    return format_timestamp(status.checked_at + offset) if status.checked_at else None


def _is_in_use(status: ServerStatus) -> bool:
    """Return True for configured servers, and for a default address when a server responds there."""
    return status.server.is_configured or status.state in (State.UP, State.LOADING)


def _simulated_field(is_simulated: bool) -> dict[str, Any]:
    return {"simulated": True} if is_simulated else {}


def _summarize_status(mode: str, can_answer: bool, services: Iterable[Mapping[str, Any]]) -> str:
    if mode == "none":
        return "disabled"
    if not can_answer:
        return "unhealthy"
    are_all_healthy = all(service["status"] in ("healthy", "disabled") for service in services)
    return "healthy" if are_all_healthy else "degraded"


def _render_service(kind: str, used: list[ServerStatus], offset: float) -> dict[str, Any]:
    """Render one provider in `/health`; the fields of Ollama's are those of the documented service API."""
    statuses = [status for status in used if status.server.kind == kind]
    main = next((status for status in statuses if status.is_up), statuses[0]) if statuses else None
    entry: dict[str, Any] = {"status": _summarize_servers(statuses)}
    entry["ollama_url" if kind == "ollama" else "url"] = choose_address(main) if main else _DEFAULT_URLS.get(kind, "")
    names = sorted({display_name(model.name) for status in statuses if status.is_up for model in status.models})
    if kind == "ollama":
        entry |= {
            "available_models": names,
            "bge_m3_available": any(name.startswith("bge-m3") for name in names),
            "gpt_oss_available": any(name.startswith("gpt-oss") for name in names),
            "total_models": len(names),
        }
    elif main:
        entry["available_models"] = names
    if main:
        entry["response_time_ms"] = round(main.response_time * 1000, 1) if main.is_up else None
        entry["last_check"] = format_last_check(main, offset)
        entry["servers"] = {
            status.server.name: "healthy" if status.is_up else _describe_state(status) for status in statuses
        }
    return entry


def _summarize_servers(statuses: list[ServerStatus]) -> str:
    if not statuses:
        return "disabled"
    if all(status.is_up for status in statuses):
        return "healthy"
    is_any_alive = any(status.state in (State.UP, State.LOADING) for status in statuses)
    return "degraded" if is_any_alive else "unhealthy"


def _describe_state(status: ServerStatus) -> str:
    names = {State.LOADING: "loading", State.DRAINING: "draining"}
    return names.get(status.state, "unhealthy")


def _render_problems(mode: str, statuses: list[ServerStatus], can_answer: bool) -> dict[str, Any]:
    """Render a message and the list of problems; both are missing when all servers are up."""
    body: dict[str, Any] = {}
    down = [render_problem(status) for status in statuses if not status.is_up]
    if mode == "none":
        body["message"] = "Language models are turned off (LLM_MODE=none). Set LLM_MODE to ollama or vllm."
    elif not can_answer and any(status.is_up for status in statuses):
        body["message"] = "A model server is up but has no model. Download one; for Ollama: `ollama pull llama3.1:8b`."
    elif not can_answer:
        body["message"] = "No model server can be reached. See `problems` for the addresses tried and what to do."
    return body | ({"problems": down} if down else {})


def _describe_error(status: ServerStatus) -> str:
    if status.error or status.detail:
        return status.error or status.detail
    return "It is loading." if status.state is State.LOADING else "It has not been probed yet."


def _suggest_remedy(status: ServerStatus) -> str:
    if status.state in (State.LOADING, State.UNKNOWN):
        return "Wait a moment; it is probed again automatically."
    if status.state is State.DRAINING:
        return "It is drained and gets no new requests. Enable it again to use it."
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
