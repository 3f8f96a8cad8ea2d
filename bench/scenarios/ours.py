"""The gateway's own decisions in the simulated world: its catalog, router, turns and lessons, used as its pipeline and
failover use them, around calls that take virtual time."""

import random
from dataclasses import dataclass, replace
from functools import partial

from bench.scenarios.calls import Seen
from bench.scenarios.policy import Act, Acts, Done, GiveUp, Offer, Send

from penstock import engines
from penstock.domain.complexity import RequestProfile
from penstock.domain.fleet import Deployment, Model, Priority, Server, ServerStatus, State
from penstock.domain.request import Call, Operation
from penstock.domain.response import Usage
from penstock.gateway.fleet.catalog import Catalog
from penstock.gateway.fleet.swap_queue import FAIRNESS_SECONDS
from penstock.gateway.fleet.throughput_learning import learn_throughput
from penstock.gateway.routing import costs
from penstock.gateway.routing.router import Policy, Router

RETRIES = 3
MOST_TURNS = 32  # as the pipeline
ENGINES = engines.load()
COSTS = costs.load_costs()


@dataclass(slots=True)
class Sent:
    """A call on its way, with what failover keeps of a try."""

    seen: Seen
    deployment: Deployment
    held: bool
    ahead: int
    at: float
    first: float = 0.0


@dataclass(slots=True)
class Waiting:
    """A call and how often it has been granted a turn, tried, and until when it may be kept out."""

    seen: Seen
    turns: int = 0
    tries: int = 0
    until: float = 0.0


class Ours:
    """The router's decision; then its turn on that server; then, when it had to wait, another decision."""

    wake_at: float | None = None

    def start(self, offers: tuple[Offer, ...]) -> None:
        on_demand = frozenset(kind for kind, engine in ENGINES.items() if engine.loads_on_demand)
        self.catalog = Catalog(on_demand=on_demand)
        operations = {kind: engine.operations for kind, engine in ENGINES.items()}
        self.router = Router(Policy(), COSTS, operations, random.Random(1))
        self._offers: dict[str, list[Offer]] = {}
        for offer in offers:
            self._offers.setdefault(offer.server, []).append(offer)
        self._servers = {name: _server(name, each[0]) for name, each in self._offers.items()}
        self._looks: dict[str, ServerStatus] = {}
        self._sent: dict[int, Sent] = {}
        self._calls: dict[int, Waiting] = {}
        self._queued: dict[int, Waiting] = {}
        self._homeless: list[int] = []
        self._acts: list[Act] = []
        self._now = 0.0
        self._turn = 0
        for name in self._servers:
            self._publish(name, True, (), 0.0)

    def arrived(self, call: Seen, now: float) -> Acts:
        self._now = now
        self._calls[call.number] = Waiting(call)
        return self._going_on([call.number], now)

    def began(self, call: int, now: float) -> Acts:
        sent = self._sent[call]
        sent.first = now - sent.at
        return ()

    def ended(self, done: Done, now: float) -> Acts:
        self._now = now
        sent = self._sent.pop(done.call)
        deployment = sent.deployment
        live = self.catalog.load_of(deployment.server.name)
        live.running -= 1
        live.consecutive_failures = 0
        del self._calls[done.call]
        usage = Usage(
            sent.seen.prompt_tokens,
            done.answer_tokens,
            load_seconds=done.load_seconds,
            prompt_seconds=done.prefill_seconds,
            completion_seconds=done.decode_seconds,
            total_seconds=now - sent.at,
        )
        learn_throughput(
            live, deployment, usage, held=sent.held, ahead=sent.ahead, first=sent.first, total=now - sent.at
        )
        live.swap_queue.finish(deployment.model.name, now)
        return self._going_on([], now)

    def failed(self, call: int, now: float, begun: bool) -> Acts:
        self._now = now
        sent = self._sent.pop(call)
        live = self.catalog.load_of(sent.deployment.server.name)
        live.running -= 1
        live.consecutive_failures += 1
        live.last_failed_at = now
        self._publish(sent.deployment.server.name, False, (), now)  # discovery looks at once after a failure
        live.swap_queue.finish(sent.deployment.model.name, now)
        waiting = self._calls[call]
        waiting.tries += 1
        if begun or waiting.tries > RETRIES:
            del self._calls[call]
            return [*([] if begun else [GiveUp(call)]), *self._going_on([], now)]
        return self._going_on([call], now)

    def looked(self, server: str, up: bool, resident: tuple[str, ...], now: float) -> Acts:
        self._now = now
        self._publish(server, up, resident, now)
        homeless, self._homeless = self._homeless, []
        return self._going_on(homeless, now)

    def woken(self, now: float) -> Acts:
        self._now = now
        for waiting in self._queued.values():
            if waiting.until <= now:
                waiting.until = float("inf")
        for name in self._servers:
            self.catalog.load_of(name).swap_queue.grant_next(now)
        return self._going_on([], now)

    def _publish(self, name: str, up: bool, resident: tuple[str, ...], now: float) -> None:
        models = tuple(_model(offer, offer.model in resident) for offer in self._offers[name])
        state = State.UP if up else State.DOWN
        server = self._servers[name]
        self._looks[name] = ServerStatus(server, state, server.url, models, checked_at=now)
        if len(self._looks) == len(self._servers):
            self.catalog.publish(self._looks.values())

    def _going_on(self, numbers: list[int], now: float) -> list[Act]:
        """Place these, and all whose turn comes by that or has come before."""
        acts: list[Act] = []
        self._now = now
        for number in numbers:
            acts += self._place(number, now)
        acts += self._acts
        self._acts = []
        self.wake_at = min((waiting.until for waiting in self._queued.values()), default=None)
        if self.wake_at == float("inf"):
            self.wake_at = None
        return acts

    def _grant(self, number: int, deployment: Deployment) -> None:
        del self._queued[number]
        self._acts += self._place(number, self._now, deployment)

    def _place(self, number: int, now: float, granted: Deployment | None = None) -> list[Act]:
        waiting = self._calls[number]
        deployment = self._chosen(waiting.seen, now)
        if deployment is None:
            self._homeless.append(number)  # nobody that may answer is up: it waits for one to return
            return []
        live, model = self.catalog.load_of(deployment.server.name), deployment.model
        its_turn = granted is not None and (granted.server.name, granted.model.name) == (
            deployment.server.name,
            deployment.model.name,
        )
        if waiting.turns < MOST_TURNS and not its_turn:
            waiting.turns += 1
            waiting.until = now + FAIRNESS_SECONDS + 1e-3
            self._queued[number] = waiting
            if (
                live.swap_queue.request(
                    model.name, model.size, deployment.slots, now, partial(self._grant, number, deployment)
                )
                is not None
            ):
                return []
            del self._queued[number]
        ahead = live.running
        live.running += 1
        self._turn += 1
        live.last_call_number = self._turn
        held = live.swap_queue.start(model.name, model.size, now)
        self._sent[number] = Sent(waiting.seen, deployment, held, ahead, now)
        return [Send(number, deployment.server.name, model.name)]

    def _chosen(self, seen: Seen, now: float) -> Deployment | None:
        call = Call("openai.chat", Operation.CHAT, seen.model or "auto", True, b"-" * (4 * seen.prompt_tokens))
        if not seen.model:
            call.profile = RequestProfile(seen.level, seen.task, context_tokens=seen.prompt_tokens)
        decision = self.router.decide(self.catalog.fleet, call, self.catalog.loads, now)
        for candidate in decision.candidates:
            if candidate.deployment.is_up and candidate.deployment.model.name in seen.fits:
                return candidate.deployment
        if not seen.model:  # what was weighed does not fit by the common rules: as if the preferred one were named
            return next(
                (found for model in seen.fits if (found := self._chosen(replace(seen, model=model), now))), None
            )
        return None


def _server(name: str, offer: Offer) -> Server:
    priority = Priority.SECONDARY if offer.secondary else Priority.PRIMARY
    return Server(name, "ollama", (f"http://{name}:11434",), priority, max_concurrent=offer.slots)


def _model(offer: Offer, loaded: bool) -> Model:
    size = int(offer.disk or offer.size)
    return Model(offer.model, size, is_loaded=loaded, size_vram=int(offer.size) if loaded else 0)
