"""Live state of one server. It outlasts fleet snapshots."""

from collections.abc import Callable
from dataclasses import dataclass, field

from penstock.gateway.fleet.residency import Residency
from penstock.gateway.fleet.swap_queue import SwapQueue
from penstock.gateway.fleet.throughput import ModelThroughput, SpeedFactor


@dataclass(slots=True, eq=False)
class ServerLoad:
    """Live state of one server: its calls, failures, throughput, residency and swap queue.

    `running` is the number of calls sent and not yet ended. `last_failed_at` is the monotonic time in seconds of the
    last failed call, 0.0 for none. `last_call_number` is the number of the last call sent to this server, counted over
    all servers. `throughputs` are by model name. `traffic_share(model, now)`, where set, returns the share of its usual
    traffic that the model should get, from 0 to 1.
    """

    running: int = 0
    consecutive_failures: int = 0
    last_failed_at: float = 0.0
    last_call_number: int = 0
    throughputs: dict[str, ModelThroughput] = field(default_factory=dict)
    speed_factor: SpeedFactor = field(default_factory=SpeedFactor)
    traffic_share: Callable[[str, float], float] | None = None
    residency: Residency = field(default_factory=Residency)
    swap_queue: SwapQueue = field(init=False)

    def __post_init__(self) -> None:
        self.swap_queue = SwapQueue(self.residency)
