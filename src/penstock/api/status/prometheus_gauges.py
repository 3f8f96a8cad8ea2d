"""The metrics that are read at the moment of asking: of servers, of the process."""

from collections.abc import Callable, Iterator

from penstock.api.dependencies import ApiDependencies
from penstock.api.status.process_usage import ResourceUsage
from penstock.domain.fleet import ServerStatus
from penstock.gateway.metrics.prometheus import Gauge

_STATES = ("closed", "half-open", "open")
_Value = Callable[[ServerStatus], float]


def list_gauges(context: ApiDependencies, resources: ResourceUsage) -> Iterator[Gauge]:
    """All of them."""
    running = context.running()
    values: tuple[tuple[str, str, _Value], ...] = (
        ("penstock_server_up", "1 when the last look found the server well.", lambda s: s.is_up),
        ("penstock_server_running", "Calls in work on the server.", lambda s: running.get(s.server.name, 0)),
        ("penstock_server_slots", "Calls that it works on at one time.", lambda s: s.slots or s.server.max_concurrent),
        ("penstock_server_models", "Models that it has.", lambda s: len(s.models)),
        (
            "penstock_server_models_loaded",
            "Models that it has in memory.",
            lambda s: sum(m.is_loaded for m in s.models),
        ),
        ("penstock_server_response_time_seconds", "How long its last look took to answer.", lambda s: s.response_time),
    )
    for name, text, value in values:
        yield Gauge(
            name,
            text,
            tuple(
                ((("server", status.server.name), ("kind", status.server.kind)), float(value(status)))
                for status in context.catalog.fleet.statuses
            ),
        )
    yield from _list_routing_gauges(context)
    yield Gauge("penstock_simulated", "1 while simulated servers answer.", (((), context.catalog.fleet.is_simulated),))
    yield Gauge("penstock_build_info", "The version that runs.", (((("version", context.version),), 1.0),))
    started = context.wall() - (context.clock() - context.started_at)
    yield Gauge("process_start_time_seconds", "When the gateway started, since the epoch.", (((), started),))
    for name, text, key in (
        ("process_cpu_seconds_total", "Processor time used.", "cpu_seconds"),
        ("process_resident_memory_bytes", "Memory in use.", "memory_bytes"),
        ("process_open_fds", "Open files and sockets.", "open_files"),
        ("process_max_fds", "Most open files and sockets.", "open_files_limit"),
    ):
        if isinstance(figure := resources.process.get(key), (int, float)):
            yield Gauge(name, text, (((), float(figure)),))


def _list_routing_gauges(context: ApiDependencies) -> Iterator[Gauge]:
    """What routing and failover are at."""
    routing, live = context.routing, context.catalog.loads
    waiting = tuple(((("server", name),), float(one.swap_queue.waiting_calls)) for name, one in sorted(live.items()))
    yield Gauge("penstock_server_waiting", "Calls that wait in the gateway for their model's turn.", waiting)
    levels = tuple(((("level", level),), float(count)) for level, count in sorted(routing.levels().items()))
    yield Gauge("penstock_routing_decisions_total", "Calls whose model was chosen, by how hard they are.", levels)
    states = tuple(
        ((("server", server), ("model", model)), float(_STATES.index(word)))
        for (server, model), word in sorted(routing.breakers().items())
        if word in _STATES
    )
    yield Gauge("penstock_breaker_state", "0 closed, 1 half-open, 2 open; without a model: the server's own.", states)
    taken, denied = routing.retries()
    yield Gauge("penstock_retry_budget_taken_total", "Tries that the retry budget paid for.", (((), taken),))
    yield Gauge("penstock_retry_budget_denied_total", "Tries that it refused.", (((), denied),))
