"""Response body of `/stats`."""

from typing import Any

import msgspec

from penstock.api.status.process_usage import ResourceUsage
from penstock.dialects.timestamps import format_timestamp
from penstock.domain.fleet import Fleet, ServerStatus
from penstock.gateway.metrics.snapshot import Percentiles, Snapshot, Totals


def render_stats(
    snapshot: Snapshot, fleet: Fleet, running: dict[str, int], usage: ResourceUsage, *, uptime: float, wall: float
) -> bytes:
    """Render `/stats`. `running` is the number of running requests by server.

    `uptime` is in seconds, `wall` in seconds since the epoch.
    """
    total = snapshot.all
    names = dict.fromkeys([*(each.name for each in snapshot.servers), *(s.server.name for s in fleet.statuses)])
    totals = {each.name: each for each in snapshot.servers}
    statuses = {status.server.name: status for status in fleet.statuses}
    return msgspec.json.encode(
        {
            "status": "success",
            "uptime_seconds": round(uptime, 1),
            "requests": {
                "total": total.requests,
                "errors": total.errors,
                "client_gone": total.disconnects,
                "streamed": total.streamed,
                "fallbacks": total.fallbacks,
                "retries": snapshot.retries,
                "running": sum(running.values()),
                "waiting": 0,
                "by_code": snapshot.codes,
                "by_wire": snapshot.wires,
            },
            "last_minute": {
                "requests": snapshot.last_minute.requests,
                "errors": snapshot.last_minute.errors,
                "tokens": snapshot.last_minute.tokens,
            },
            "tokens": _render_tokens(total),
            "latency_ms": _render_milliseconds(total.latency),
            "ttft_ms": _render_milliseconds(total.ttft),
            "models": {each.name: _render_totals(each) for each in snapshot.models},
            "servers": {
                name: _render_server(statuses.get(name), running.get(name, 0))
                | _render_totals(totals.get(name, Totals()))
                for name in names
            },
            "process": usage.process,
            "host": usage.host,
            "timestamp": format_timestamp(wall),
        }
        | ({"simulated": True} if fleet.is_simulated else {})
    )


def _render_server(status: ServerStatus | None, running: int) -> dict[str, Any]:
    entry: dict[str, Any] = {"state": status.state.value if status else "removed", "running": running}
    if status:
        entry["slots"] = status.slots or status.server.max_concurrent
    return entry


def _render_totals(total: Totals) -> dict[str, Any]:
    return {
        "requests": total.requests,
        "errors": total.errors,
        "client_gone": total.disconnects,
        "tokens": _render_tokens(total),
        "latency_ms": _render_milliseconds(total.latency),
        "ttft_ms": _render_milliseconds(total.ttft),
    }


def _render_tokens(total: Totals) -> dict[str, int]:
    prompt, completion = total.prompt_tokens, total.completion_tokens
    return {"prompt": prompt, "completion": completion, "total": prompt + completion}


def _render_milliseconds(times: Percentiles) -> dict[str, float]:
    milliseconds = {name: round(getattr(times, name) * 1000, 1) for name in ("mean", "p50", "p90", "p95", "p99")}
    return {"count": times.count} | milliseconds
