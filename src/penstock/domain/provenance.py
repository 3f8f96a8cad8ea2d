"""The origin of a response: the server and model that produced it, and how long it took."""

from dataclasses import dataclass


@dataclass(slots=True)
class Provenance:
    """Origin of a response, reported in headers and metadata.

    Times are seconds. `model` is the server's name for the model, `requested` the name that the caller sent. `reason`
    is a short sentence on the routing decision. `warning` is set when a substitute answered. `resumed` counts the
    servers that continued an interrupted stream. Not frozen: relays set the response's
    times when it is complete, and `resumed` when another server continues it.
    """

    request_id: str
    created: float = 0.0
    server: str = ""
    server_url: str = ""
    provider: str = ""
    model: str = ""
    requested: str = ""
    is_distributed: bool = False
    is_fallback: bool = False
    reason: str = ""
    warning: str = ""
    complexity: str = ""
    task_type: str = ""
    used_fast_model: bool = False
    queue_seconds: float = 0.0
    ttft_seconds: float = 0.0
    total_seconds: float = 0.0
    is_simulated: bool = False
    resumed: int = 0
