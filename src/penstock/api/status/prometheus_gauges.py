"""Metrics that are read when Prometheus scrapes: those of servers, routing and the process."""

from collections.abc import Callable, Iterator

from penstock.api.dependencies import ApiDependencies
from penstock.api.status.process_usage import ResourceUsage
from penstock.domain.fleet import ServerStatus
from penstock.gateway.metrics.prometheus import Gauge

_BREAKER_STATES = ("closed", "half-open", "open")
_PROCESS_METRICS = (
    ("process_cpu_seconds_total", "CPU time used, in seconds.", "cpu_seconds"),
    ("process_resident_memory_bytes", "Resident memory, in bytes.", "memory_bytes"),
    ("process_open_fds", "Open files and sockets.", "open_files"),
    ("process_max_fds", "Maximum number of open files and sockets.", "open_files_limit"),
)


def list_gauges(deps: ApiDependencies, usage: ResourceUsage) -> Iterator[Gauge]:
    """Read all metrics."""
    fleet = deps.catalog.fleet
    yield from _list_server_gauges(deps)
    yield from _list_routing_gauges(deps)
    yield _build_gauge("penstock_simulated", "1 while simulated servers answer requests.", fleet.is_simulated)
    yield Gauge("penstock_build_info", "Version of the gateway.", (((("version", deps.version),), 1.0),))
    started = deps.wall() - (deps.clock() - deps.started_at)
    yield _build_gauge("process_start_time_seconds", "Start time of the gateway, in seconds since the epoch.", started)
    for name, description, key in _PROCESS_METRICS:
        if isinstance(value := usage.process.get(key), (int, float)):
            yield _build_gauge(name, description, float(value))


def _list_server_gauges(deps: ApiDependencies) -> Iterator[Gauge]:
    running = deps.count_running()
    metrics: tuple[tuple[str, str, Callable[[ServerStatus], float]], ...] = (
        ("penstock_server_up", "1 if the last health check succeeded.", lambda s: s.is_up),
        ("penstock_server_running", "Requests running on the server.", lambda s: running.get(s.server.name, 0)),
        (
            "penstock_server_slots",
            "Requests that the server processes at a time.",
            lambda s: s.slots or s.server.max_concurrent,
        ),
        ("penstock_server_models", "Models on the server.", lambda s: len(s.models)),
        (
            "penstock_server_models_loaded",
            "Models loaded in the server's memory.",
            lambda s: sum(model.is_loaded for model in s.models),
        ),
        (
            "penstock_server_response_time_seconds",
            "Response time of the last health check, in seconds.",
            lambda s: s.response_time,
        ),
    )
    for name, description, read_value in metrics:
        samples = tuple(
            ((("server", status.server.name), ("kind", status.server.kind)), float(read_value(status)))
            for status in deps.catalog.fleet.statuses
        )
        yield Gauge(name, description, samples)


def _list_routing_gauges(deps: ApiDependencies) -> Iterator[Gauge]:
    gateway = deps.gateway
    waiting = tuple(
        ((("server", name),), float(load.swap_queue.waiting_calls)) for name, load in sorted(deps.catalog.loads.items())
    )
    yield Gauge("penstock_server_waiting", "Requests waiting in the gateway for their model to be swapped in.", waiting)
    levels = tuple(((("level", level),), float(count)) for level, count in sorted(gateway.count_levels().items()))
    yield Gauge(
        "penstock_routing_decisions_total", "Requests whose model the gateway chose, by complexity level.", levels
    )
    states = tuple(
        ((("server", server), ("model", model)), float(_BREAKER_STATES.index(state)))
        for (server, model), state in sorted(gateway.list_breaker_states().items())
        if state in _BREAKER_STATES
    )
    yield Gauge(
        "penstock_breaker_state",
        "State of the circuit breaker: 0 closed, 1 half-open, 2 open; with an empty model, that of the server.",
        states,
    )
    retries = gateway.count_retries()
    yield _build_gauge(
        "penstock_retry_budget_taken_total", "Retries that the retry budget has allowed.", retries.allowed
    )
    yield _build_gauge(
        "penstock_retry_budget_denied_total", "Retries that the retry budget has denied.", retries.denied
    )


def _build_gauge(name: str, description: str, value: float) -> Gauge:
    """Build a metric without labels."""
    return Gauge(name, description, (((), value),))
