"""Adapter that gives the API its view of a running gateway."""

import time
from collections.abc import Awaitable, Mapping, Sequence

from penstock import __version__
from penstock.api.dependencies import ApiDependencies, ApiSettings, RetryCounts
from penstock.app.gateway import Gateway
from penstock.gateway.observers.decision_log import DecisionRecord
from penstock.gateway.routing.complexity.classifier import Classifier
from penstock.gateway.upstream.transport.upload import Uploader
from penstock.serving.origin_policy import OriginPolicy


class LiveGatewayStatus:
    """The `GatewayStatus` of a gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    @property
    def is_draining(self) -> bool:
        """True once no new work is accepted."""
        return self._gateway.pipeline.draining

    @property
    def has_probed_servers(self) -> bool:
        """True once every server has been probed."""
        return self._gateway.watcher.has_probed_all

    @property
    def api_settings(self) -> ApiSettings:
        """The settings in force."""
        return ApiSettings(self._gateway.settings.llm.mode, lists_auto=self._gateway.settings.routing.list_auto)

    @property
    def classifier(self) -> Classifier:
        """The classifier in use; a reload replaces it."""
        return self._gateway.pipeline.classifier

    def probe_for_new_models(self) -> Awaitable[None] | None:
        """Start to probe the servers for new models; None when that is not needed."""
        return self._gateway.watcher.probe_again()

    async def refresh_models(self) -> None:
        """Probe the servers unless that was done a moment ago, so that a list of models is true."""
        await self._gateway.watcher.refresh()

    def list_decisions(self) -> Sequence[DecisionRecord]:
        """Return the last routing decisions, oldest first."""
        return self._gateway.decision_log.records

    def count_levels(self) -> Mapping[str, int]:
        """Return the number of classified requests by level."""
        return self._gateway.decision_log.calls_by_level

    def list_breaker_states(self) -> Mapping[tuple[str, str], str]:
        """Return the state of each circuit breaker by server and model ("": the server itself)."""
        return self._gateway.failover.breakers.list_states()

    def count_retries(self) -> RetryCounts:
        """Return the numbers of retries that the budget has allowed and denied."""
        budget = self._gateway.failover.budget
        return RetryCounts(budget.taken, budget.denied)


def build_api_dependencies(gateway: Gateway, origin_policy: OriginPolicy) -> ApiDependencies:
    """Build what the API needs of a gateway."""
    return ApiDependencies(
        version=__version__,
        catalog=gateway.catalog,
        meter=gateway.meter,
        router=gateway.router,
        engines=gateway.engines,
        dialects=gateway.dialects,
        fetch=gateway.fetch,
        upload=Uploader(gateway.engines),
        gateway=LiveGatewayStatus(gateway),
        is_origin_allowed=origin_policy.is_origin_allowed,
        clock=time.monotonic,
        wall=time.time,
        started_at=gateway.started_at,
    )
