"""State shared by all client connections of one gateway."""

from dataclasses import dataclass

from penstock.gateway.pipeline import Pipeline
from penstock.serving.origin_policy import OriginPolicy
from penstock.serving.routes import RouteTable


@dataclass(slots=True, eq=False)
class ServingContext:
    """The pipeline that runs requests, and the rules by which they are accepted."""

    pipeline: Pipeline
    routes: RouteTable
    origin_policy: OriginPolicy
    max_body_bytes: int
    date_line: bytes = b""
    """The rendered `date` header line; the server renews it every second."""
