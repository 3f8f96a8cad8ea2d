"""The loop of tries: one candidate after the other, until one has delivered or the client has seen a first byte."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from penstock.dialects.base import Endpoint
from penstock.domain.answer import Answer, Choice, Usage
from penstock.domain.call import Call, Defaults, Operation, Provenance
from penstock.domain.content import Chat, Completion, Content, Embedding
from penstock.domain.decision import Candidate, Decision
from penstock.domain.errors import (
    ConnectFailed,
    ModelNotFound,
    NoServer,
    PenstockError,
    RateLimited,
    Unsupported,
    UpstreamStatus,
)
from penstock.domain.fleet import Deployment, Fleet
from penstock.engines.base import Outgoing
from penstock.gateway.catalog import Catalog
from penstock.gateway.client import Client
from penstock.gateway.upstream.attempt import Attempts, Target
from penstock.gateway.upstream.passthrough import PassThrough
from penstock.gateway.upstream.relay import Relay
from penstock.gateway.upstream.translated import BYTES_PER_TOKEN, Translated

MAX_HEADS = 4096
ANOTHER = "another server failed"
"""Why a second choice answered."""


@dataclass(slots=True)
class Tries:
    """What became of a call: how often it was tried, and where it ended."""

    attempts: int = 0
    deployment: Deployment | None = None
    relay: Relay | None = None


class Failover:
    """Tries candidates. `suspect(server name)` is told of a server that failed, so that it is looked at. `clock` gives
    monotonic seconds, `wall` the time of day."""

    def __init__(
        self,
        catalog: Catalog,
        attempts: Attempts,
        defaults: Defaults,
        suspect: Callable[[str], None],
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self.defaults = defaults
        self._catalog = catalog
        self._attempts = attempts
        self._suspect = suspect
        self._clock = clock
        self._wall = wall
        self._targets: dict[tuple[str, str], Target] = {}
        self._heads: dict[tuple[str, str, str, bool], bytes] = {}
        self._drawn_for: Fleet | None = None

    def forget(self) -> None:
        """Draw everything anew: settings have changed."""
        self._targets.clear()
        self._heads.clear()

    async def run(self, client: Client, endpoint: Endpoint, call: Call, decision: Decision, tries: Tries) -> None:
        """Deliver the call's answer to the client, or raise what is to be told to it."""
        failed: list[tuple[Deployment, PenstockError]] = []
        content: Content | None = None
        for candidate in decision.candidates:
            deployment = candidate.deployment
            target = self._target(deployment)
            live = target.live
            live.running += 1  # the lease: returned below, whatever happens
            tries.attempts += 1
            tries.deployment = deployment
            try:
                if endpoint.wire in target.engine.native:
                    head = self._head(deployment, decision, tries.attempts)
                    relay = tries.relay = PassThrough(client, call, endpoint, head, self._attempts.loop)
                    data = self._attempts.begin(target, target.engine.forward(call, deployment.model), relay, client)
                    if relay.connection is None or await relay is not None or relay.status >= 300:
                        await self._attempts.finish(target, data, relay, client)
                else:
                    if content is None:
                        content = self._content(endpoint, call)
                    await self._translated(client, endpoint, call, content, candidate, decision, tries)
                live.failures = 0
                if call.operation is Operation.MANAGE:
                    self._suspect(deployment.server.name)  # its list of models has changed
                return
            except PenstockError as error:
                self._note(client, call, deployment, error)
                failed.append((deployment, error))
            finally:
                live.running -= 1
        raise _sum_up(failed)

    def _note(self, client: Client, call: Call, deployment: Deployment, error: PenstockError) -> None:
        """A try has failed: blame whom it says something about, and raise what no other try can mend."""
        client.source = None  # the connection may serve another call by now
        if error.retryable:
            self._blame(deployment, error)
        if client.gone or client.begun:
            raise error
        if not error.retryable and not isinstance(error, Unsupported | ModelNotFound):
            raise error
        if call.operation is Operation.MANAGE and not isinstance(error, ConnectFailed):
            raise error  # it may have been done: it is not to be done twice

    def _target(self, deployment: Deployment) -> Target:
        fleet = self._catalog.fleet
        if fleet is not self._drawn_for:
            self._drawn_for = fleet
            self._targets.clear()
        key = (deployment.server.name, deployment.model.name)
        target = self._targets.get(key)
        if target is None:
            target = self._targets[key] = self._attempts.target(
                deployment, self._catalog.live_of(deployment.server.name)
            )
        return target

    async def _translated(
        self,
        client: Client,
        endpoint: Endpoint,
        call: Call,
        content: Content,
        candidate: Candidate,
        decision: Decision,
        tries: Tries,
    ) -> None:
        """One try on an engine that speaks another wire; on 404 once more where the engine's older versions differ."""
        deployment = candidate.deployment
        target = self._target(deployment)
        engine = target.engine
        head = self._head(deployment, decision, tries.attempts)
        told = self._told(client, call, candidate, decision, tries.attempts)
        answer = _without_engine(call, content)
        asked = call
        if call.defaults and self.defaults.stream and not call.stream:
            asked = replace(call, stream=True)
        try:
            outgoing: Outgoing | None = None if answer else engine.translate(asked, content, deployment.model)
        except Unsupported:
            if call.operation is not Operation.COUNT:
                raise
            answer, outgoing = Answer(usage=_count(call)), None
        if answer is not None:
            _deliver(client, endpoint, call, answer, head, told)
            return
        while outgoing is not None:
            reader = engine.reader(asked, content, outgoing)
            relay = Translated(client, call, endpoint, head, self._attempts.loop, reader, told)
            tries.relay = relay
            try:
                await self._attempts.run(target, outgoing, relay, client)
                return
            except PenstockError:
                if relay.status == 404 and call.operation is Operation.COUNT:
                    _deliver(client, endpoint, call, Answer(usage=_count(call)), head, told)
                    return
                if relay.status != 404 or outgoing.otherwise is None:
                    raise
                outgoing = outgoing.otherwise

    def _content(self, endpoint: Endpoint, call: Call) -> Content:
        """The call read whole, with the configured token limit and temperature where it asks for them."""
        content = endpoint.decode(call)
        if not call.defaults or not isinstance(content, Chat | Completion):
            return content
        sampling = content.sampling
        if sampling.max_tokens is None:
            sampling = replace(sampling, max_tokens=self.defaults.max_tokens)
        if sampling.temperature is None:
            sampling = replace(sampling, temperature=self.defaults.temperature)
        return replace(content, sampling=sampling)

    def _head(self, deployment: Deployment, decision: Decision, attempt: int) -> bytes:
        """The header lines that say who answers. Drawn once for each answerer and reason."""
        fallback = decision.fallback or attempt > 1
        reason = decision.reason if attempt == 1 else ANOTHER
        key = (deployment.server.name, deployment.model.name, reason, fallback)
        head = self._heads.get(key)
        if head is None:
            if len(self._heads) >= MAX_HEADS:
                self._heads.clear()
            lines = {
                "server": deployment.server.name,
                "model": deployment.model.name,
                "reason": reason,
                "fallback": str(fallback).lower(),
            }
            if deployment.server.simulated:
                lines["simulated"] = "true"
            head = b"".join(b"x-penstock-%b: %b\r\n" % (name.encode(), _ascii(value)) for name, value in lines.items())
            self._heads[key] = head
        return head

    def _told(self, client: Client, call: Call, candidate: Candidate, decision: Decision, attempt: int) -> Provenance:
        deployment = candidate.deployment
        server = deployment.server
        fallback = decision.fallback or attempt > 1
        return Provenance(
            request_id=client.request_id,
            created=self._wall(),
            requested="" if call.automatic else call.model,
            server=server.name,
            server_url=deployment.url,
            provider=server.kind,
            model=deployment.model.name,
            fallback=fallback,
            reason=decision.reason if attempt == 1 else ANOTHER,
            warning=candidate.warning or decision.warning,
            distributed=self.defaults.distributed
            and sum(status.server.kind == server.kind for status in self._catalog.fleet.statuses) > 1,
            simulated=server.simulated,
        )

    def _blame(self, deployment: Deployment, error: PenstockError) -> None:
        live = self._catalog.live_of(deployment.server.name)
        live.failures += 1
        live.failed_at = self._clock()
        if not isinstance(error, UpstreamStatus):
            self._suspect(deployment.server.name)


def _without_engine(call: Call, content: Content) -> Answer | None:
    """The answer to a request that asks for no work: only Ollama can be told to load or unload a model."""
    if "unload" in call.flags:
        return Answer((Choice(finish="unload"),))
    if "load" in call.flags:
        return Answer() if isinstance(content, Embedding) else Answer((Choice(finish="load"),))
    return None


def _count(call: Call) -> Usage:
    return Usage(prompt_tokens=max(1, len(call.body) // BYTES_PER_TOKEN), estimated=True)


def _deliver(
    client: Client, endpoint: Endpoint, call: Call, answer: Answer, head: bytes, provenance: Provenance
) -> None:
    whole = replace(call, stream=False)
    writer = endpoint.writer(whole, provenance)
    client.whole(200, writer.content_type, head, writer.whole(answer, provenance))


def _sum_up(failed: list[tuple[Deployment, PenstockError]]) -> PenstockError:
    """What to tell of several failures: the one that says most, and of servers that are away each and why."""
    if all(isinstance(error, ConnectFailed) for _, error in failed):
        told = "; ".join(
            f"{deployment.server.name}: {error.message}"
            + (f" (its address is set in {deployment.server.setting})" if deployment.server.setting else "")
            for deployment, error in failed
        )
        return NoServer(f"no server can answer just now: {told}", retry_after=5)
    errors = [error for _, error in failed]
    telling = [error for error in errors if error.retryable and not isinstance(error, ConnectFailed)] or [
        error for error in errors if not isinstance(error, ConnectFailed)
    ]
    if all(error.status in (429, 503) for error in errors):
        waits = [error.retry_after for error in errors if error.retry_after is not None]
        telling[-1].retry_after = min(waits, default=1.0)
        if all(error.status == 429 for error in errors):
            return RateLimited(telling[-1].message, retry_after=telling[-1].retry_after)
    return telling[-1]


def _ascii(text: str) -> bytes:
    """A header value: what is not printable ASCII is percent-encoded as UTF-8."""
    return b"".join(bytes((byte,)) if 32 <= byte < 127 else b"%%%02X" % byte for byte in text.encode())
