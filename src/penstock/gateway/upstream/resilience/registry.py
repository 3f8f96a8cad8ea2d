"""Registry of all circuit breakers, updated by health checks."""

import functools
from collections.abc import Callable, Iterable

from penstock.domain.fleet import ServerStatus
from penstock.gateway.upstream.resilience.breaker import CLOSED, STATE_NAMES, Breaker, BreakerPair, BreakerPolicy

MAX_DEPLOYMENTS = 4096
"""Deployments whose breakers are kept while they track no failures."""


class BreakerRegistry:
    """All breakers, by server and by model on a server. `random` returns numbers in [0, 1)."""

    def __init__(self, random: Callable[[], float], policy: BreakerPolicy | None = None) -> None:
        self.policy = policy or BreakerPolicy()
        self._random = random
        self._servers: dict[str, Breaker] = {}
        self._deployments: dict[tuple[str, str], BreakerPair] = {}
        self._was_up: dict[str, bool] = {}

    def get(self, server: str, model: str) -> BreakerPair:
        """Return the breakers of a model on a server, created on first use."""
        pair = self._deployments.get((server, model))
        if pair is None:
            server_breaker = self._servers.setdefault(server, Breaker(self.policy))
            pair = self._deployments[server, model] = BreakerPair(server_breaker, Breaker(self.policy), self._random)
        return pair

    def update_from_health_checks(self, statuses: Iterable[ServerStatus], now: float) -> None:
        """Allow a probe to servers that are up again, and expire old failures.

        Breakers of servers that left the fleet are dropped unless they track failures.
        """
        for breaker in self.list_breakers():
            breaker.expire_failures(now)
        was_up, self._was_up = self._was_up, {}
        for status in statuses:
            name = status.server.name
            self._was_up[name] = status.is_up
            server_breaker = self._servers.get(name)
            if status.is_up and server_breaker is not None:
                is_back = not was_up.get(name, True)
                if is_back or (server_breaker.unreachable and status.checked_at > server_breaker.opened_at):
                    self._allow_probe(name, server_breaker)
        self._drop_unused()

    def list_breakers(self) -> list[Breaker]:
        """Return all breakers."""
        return [*self._servers.values(), *(pair.model for pair in self._deployments.values())]

    def _allow_probe(self, server: str, server_breaker: Breaker) -> None:
        server_breaker.allow_probe()
        for (name, _), pair in self._deployments.items():
            if name == server:
                pair.model.allow_probe()

    def _drop_unused(self) -> None:
        pairs, fleet = self._deployments, self._was_up
        is_crowded = len(pairs) > MAX_DEPLOYMENTS
        for key in [k for k, pair in pairs.items() if (is_crowded or k[0] not in fleet) and not pair.is_tracking]:
            del pairs[key]
        for name in [n for n, breaker in self._servers.items() if n not in fleet and not breaker.is_tracking]:
            if not any(server == name for server, _ in pairs):
                del self._servers[name]

    def traffic_share(self, server: str, model: str, now: float) -> float:
        """Return the fraction of its usual traffic that a model on a server should get, 0 to 1."""
        pair = self._deployments.get((server, model))
        if pair is not None:
            return pair.traffic_share(now)
        breaker = self._servers.get(server)
        return 1.0 if breaker is None else breaker.traffic_share(now)

    def share_function(self, server: str) -> Callable[[str, float], float]:
        """Return `traffic_share` of one server, for callers that must not know breakers."""
        return functools.partial(self.traffic_share, server)

    def is_unrestricted(self, server: str, now: float) -> bool:
        """Return whether the server and all its models should get their usual traffic."""
        breakers = [pair.model for (name, _), pair in self._deployments.items() if name == server]
        if server in self._servers:
            breakers.append(self._servers[server])
        return all(breaker.state == CLOSED and breaker.traffic_share(now) >= 1.0 for breaker in breakers)

    def list_states(self) -> dict[tuple[str, str], str]:
        """Return the state of every breaker by (server, model); the server's own under model ""."""
        states = {(name, ""): STATE_NAMES[breaker.state] for name, breaker in self._servers.items()}
        return states | {key: STATE_NAMES[pair.model.state] for key, pair in self._deployments.items()}
