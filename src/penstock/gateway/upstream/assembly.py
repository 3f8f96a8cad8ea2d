"""Assemble the parts of the upstream side."""

import random
import time
from collections.abc import Callable, Mapping

from penstock.domain.request import Defaults
from penstock.engines.base import Engine, FetchFunction
from penstock.gateway.fleet.catalog import Catalog
from penstock.gateway.metrics.meter import Meter
from penstock.gateway.upstream.attempt import Attempts
from penstock.gateway.upstream.failover import Failover
from penstock.gateway.upstream.lease import LeaseContext
from penstock.gateway.upstream.resilience.registry import BreakerRegistry
from penstock.gateway.upstream.round_trip import RoundTrips
from penstock.gateway.upstream.targets import TargetFactory, Targets, Timeouts
from penstock.gateway.upstream.translated_attempt import TranslatedAttempts
from penstock.gateway.upstream.transport.pool import Pools


def create_failover(
    *,
    catalog: Catalog,
    pools: Pools,
    engines: Mapping[str, Engine],
    meter: Meter,
    defaults: Defaults,
    timeouts_of: Callable[[str], Timeouts],
    fetch: FetchFunction,
    request_probe: Callable[[str], None],
    user_agent: str,
) -> Failover:
    """Create the failover and all that it needs.

    `timeouts_of` returns a server's timeouts by its name; `fetch` sends small requests; `request_probe` has a server,
    given by its name, probed soon; `user_agent` names the gateway to servers.
    """
    clock = time.monotonic
    breakers = BreakerRegistry(random.random)
    targets = Targets(TargetFactory(pools, engines, timeouts_of, meter), catalog, breakers, clock)
    round_trips = RoundTrips(user_agent)
    translated = TranslatedAttempts(round_trips, fetch, clock)
    leases = LeaseContext(targets, request_probe, clock)
    attempts = Attempts(leases, round_trips, translated, catalog, defaults, time.time)
    return Failover(targets, attempts, clock, random.random)
