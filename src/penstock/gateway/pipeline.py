"""The story of a call, top to bottom: read → route → lease → attempt → relay → settle."""

import logging
from collections.abc import Callable

from penstock.dialects.base import Endpoint
from penstock.domain.call import Call
from penstock.domain.decision import Decision
from penstock.domain.errors import PenstockError, ShuttingDown
from penstock.gateway.catalog import Catalog
from penstock.gateway.client import Client
from penstock.gateway.meter import Meter, Record
from penstock.gateway.routing.router import Router
from penstock.gateway.routing.signals.base import Situation
from penstock.gateway.upstream.failover import Failover, Tries

log = logging.getLogger("penstock.gateway")


class Pipeline:
    """Runs calls, one coroutine each. `clock` gives monotonic seconds."""

    def __init__(
        self,
        catalog: Catalog,
        router: Router,
        failover: Failover,
        meter: Meter,
        clock: Callable[[], float],
    ) -> None:
        self.catalog = catalog
        self.router = router
        self.failover = failover
        self.meter = meter
        self.running = 0
        self.draining = False
        self._clock = clock

    async def run(self, client: Client, endpoint: Endpoint, body: bytes, content_type: bytes) -> None:
        """Answer one call. Whatever happens, the client has an answer or is gone, and everything taken is returned."""
        begin = self._clock()
        tries = Tries()
        call: Call | None = None
        failure: PenstockError | None = None
        self.running += 1
        try:
            if self.draining:
                raise ShuttingDown("the gateway is stopping; try again in a moment", retry_after=2)
            call = endpoint.read(body, content_type)
            decision = self.decide(call)
            await self.failover.run(client, endpoint, call, decision, tries)
            if call.defaults or decision.fallback or tries.attempts > 1:
                self._log(decision, tries)
        except PenstockError as error:
            failure = error
        except Exception:
            log.exception("a call to %s failed in the gateway itself", endpoint.wire)
            failure = PenstockError("the gateway failed; its log says how")
        finally:
            self.running -= 1
            client.source = None
            if failure is not None and not client.gone and not client.begun:
                client.fail(failure)
            self._settle(client, endpoint, call, tries, failure, begin)

    def decide(self, call: Call, explain: bool = False) -> Decision:
        """The decision for a call at this moment."""
        return self.router.decide(self.catalog.fleet, call, self._situation, explain)

    def _situation(self, server: str) -> Situation:
        live = self.catalog.live[server]
        return Situation(live.running, live.failed_at, self._clock())

    def _log(self, decision: Decision, tries: Tries) -> None:
        deployment = tries.deployment
        if deployment is None:
            return
        fallback = decision.fallback or tries.attempts > 1
        log.info("Distributed routing: %s @ %s (fallback: %s)", deployment.model.name, deployment.server.name, fallback)

    def _settle(
        self,
        client: Client,
        endpoint: Endpoint,
        call: Call | None,
        tries: Tries,
        failure: PenstockError | None,
        begin: float,
    ) -> None:
        """Tell the meter what the call was and cost."""
        now = self._clock()
        relay, deployment = tries.relay, tries.deployment
        usage = tries.usage or (relay.usage if relay is not None else None)
        streamed = call is not None and call.stream
        first_at = client.first_at
        self.meter.settle(
            Record(
                wire=endpoint.wire,
                model=deployment.model.name if deployment is not None else "",
                server=deployment.server.name if deployment is not None else "",
                kind=deployment.server.kind if deployment is not None else "",
                status=failure.status if failure is not None else 200,
                code=failure.code if failure is not None else "ok",
                streamed=streamed,
                prompt_tokens=usage.prompt_tokens if usage is not None else 0,
                completion_tokens=usage.completion_tokens
                if usage is not None
                else (relay.pieces if relay is not None and streamed else 0),
                estimated=usage is None or usage.estimated,
                ttft=(first_at - begin) if first_at else 0.0,
                total=now - begin,
                attempts=tries.attempts,
                fallback=tries.attempts > 1,
                gone=client.gone,
                started_at=begin,
            )
        )
