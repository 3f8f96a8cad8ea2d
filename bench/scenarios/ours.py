"""The gateway's own routing as a policy: its catalog, router, swap queue and throughput learning in virtual time."""

import random
from dataclasses import dataclass, replace
from functools import partial

from bench.scenarios.calls import VisibleCall
from bench.scenarios.policy import Action, Actions, CompletedCall, FailCall, Offer, SendCall

from penstock import engines
from penstock.domain.complexity import RequestProfile
from penstock.domain.fleet import Deployment, Model, Priority, Server, ServerStatus, State
from penstock.domain.request import Call, Operation
from penstock.domain.response import Usage
from penstock.gateway.fleet.catalog import Catalog
from penstock.gateway.fleet.learning import AnsweredCall, learn_throughput
from penstock.gateway.fleet.swap_queue import FAIRNESS_SECONDS
from penstock.gateway.routing import costs
from penstock.gateway.routing.model_profile import estimate_billions
from penstock.gateway.routing.policy import Policy
from penstock.gateway.routing.router import Router

RETRIES = 3
MAX_QUEUE_ENTRIES = 32  # like the pipeline
ENGINES = engines.load()
COSTS = costs.load_costs()


@dataclass(slots=True)
class SentCall:
    """Call that was sent, with the state that failover keeps of an attempt."""

    seen: VisibleCall
    deployment: Deployment
    model_was_loaded: bool
    running_before: int
    sent_at: float
    first_token_seconds: float = 0.0


@dataclass(slots=True)
class WaitingCall:
    """Call with the number of its queue entries and attempts, and the end of its time in the queue."""

    seen: VisibleCall
    turns: int = 0
    tries: int = 0
    deadline: float = 0.0


class GatewayPolicy:
    """Policy of the gateway: a decision, the swap queue of that server, and another decision after waiting."""

    wake_at: float | None = None

    def start(self, offers: tuple[Offer, ...]) -> None:
        on_demand = frozenset(kind for kind, engine in ENGINES.items() if engine.loads_on_demand)
        self.catalog = Catalog(on_demand=on_demand, estimate_billions=estimate_billions)
        operations = {kind: engine.operations for kind, engine in ENGINES.items()}
        self.router = Router(Policy(), COSTS, operations, random.Random(1))
        self._offers: dict[str, list[Offer]] = {}
        for offer in offers:
            self._offers.setdefault(offer.server, []).append(offer)
        self._servers = {name: _build_server(name, each[0]) for name, each in self._offers.items()}
        self._statuses: dict[str, ServerStatus] = {}
        self._sent: dict[int, SentCall] = {}
        self._calls: dict[int, WaitingCall] = {}
        self._queued: dict[int, WaitingCall] = {}
        self._unroutable: list[int] = []
        self._actions: list[Action] = []
        self._now = 0.0
        self._turn = 0
        for name in self._servers:
            self._publish_status(name, True, (), 0.0)

    def on_arrival(self, call: VisibleCall, now: float) -> Actions:
        self._now = now
        self._calls[call.number] = WaitingCall(call)
        return self._send_calls([call.number], now)

    def on_first_token(self, call: int, now: float) -> Actions:
        sent = self._sent[call]
        sent.first_token_seconds = now - sent.sent_at
        return ()

    def on_completion(self, done: CompletedCall, now: float) -> Actions:
        self._now = now
        sent = self._sent.pop(done.call)
        deployment = sent.deployment
        load = self.catalog.load_of(deployment.server.name)
        load.running -= 1
        load.consecutive_failures = 0
        del self._calls[done.call]
        usage = Usage(
            sent.seen.prompt_tokens,
            done.answer_tokens,
            load_seconds=done.load_seconds,
            prompt_seconds=done.prefill_seconds,
            completion_seconds=done.decode_seconds,
            total_seconds=now - sent.sent_at,
        )
        answered = AnsweredCall(
            usage, sent.model_was_loaded, sent.running_before, sent.first_token_seconds, now - sent.sent_at
        )
        learn_throughput(load, deployment, answered)
        load.swap_queue.finish(deployment.model.name, now)
        return self._send_calls([], now)

    def on_failure(self, call: int, now: float, has_started: bool) -> Actions:
        self._now = now
        sent = self._sent.pop(call)
        load = self.catalog.load_of(sent.deployment.server.name)
        load.running -= 1
        load.consecutive_failures += 1
        load.last_failed_at = now
        self._publish_status(sent.deployment.server.name, False, (), now)  # discovery probes at once after a failure
        load.swap_queue.finish(sent.deployment.model.name, now)
        waiting = self._calls[call]
        waiting.tries += 1
        if has_started or waiting.tries > RETRIES:
            del self._calls[call]
            return [*([] if has_started else [FailCall(call)]), *self._send_calls([], now)]
        return self._send_calls([call], now)

    def on_probe(self, server: str, up: bool, resident: tuple[str, ...], now: float) -> Actions:
        self._now = now
        self._publish_status(server, up, resident, now)
        homeless, self._unroutable = self._unroutable, []
        return self._send_calls(homeless, now)

    def on_timer(self, now: float) -> Actions:
        self._now = now
        for waiting in self._queued.values():
            if waiting.deadline <= now:
                waiting.deadline = float("inf")
        for name in self._servers:
            self.catalog.load_of(name).swap_queue.grant_next(now)
        return self._send_calls([], now)

    def _publish_status(self, name: str, up: bool, resident: tuple[str, ...], now: float) -> None:
        models = tuple(_build_model(offer, offer.model in resident) for offer in self._offers[name])
        state = State.UP if up else State.DOWN
        server = self._servers[name]
        self._statuses[name] = ServerStatus(server, state, server.url, models, checked_at=now)
        if len(self._statuses) == len(self._servers):
            self.catalog.publish(self._statuses.values())

    def _send_calls(self, numbers: list[int], now: float) -> list[Action]:
        """Send these calls, and those that the swap queues grant."""
        actions: list[Action] = []
        self._now = now
        for number in numbers:
            actions += self._send_call(number, now)
        actions += self._actions
        self._actions = []
        self.wake_at = min((waiting.deadline for waiting in self._queued.values()), default=None)
        if self.wake_at == float("inf"):
            self.wake_at = None
        return actions

    def _on_granted(self, number: int, deployment: Deployment) -> None:
        del self._queued[number]
        self._actions += self._send_call(number, self._now, deployment)

    def _send_call(self, number: int, now: float, granted: Deployment | None = None) -> list[Action]:
        waiting = self._calls[number]
        deployment = self._choose_deployment(waiting.seen, now)
        if deployment is None:
            self._unroutable.append(number)  # no suitable server is up: wait until one returns
            return []
        load, model = self.catalog.load_of(deployment.server.name), deployment.model
        is_granted = granted is not None and (granted.server.name, granted.model.name) == (
            deployment.server.name,
            deployment.model.name,
        )
        if waiting.turns < MAX_QUEUE_ENTRIES and not is_granted:
            waiting.turns += 1
            waiting.deadline = now + FAIRNESS_SECONDS + 1e-3
            self._queued[number] = waiting
            if (
                load.swap_queue.request(
                    model.name, model.size, deployment.slots, now, partial(self._on_granted, number, deployment)
                )
                is not None
            ):
                return []
            del self._queued[number]
        running_before = load.running
        load.running += 1
        self._turn += 1
        load.last_call_number = self._turn
        model_was_loaded = load.swap_queue.start(model.name, model.size, now)
        self._sent[number] = SentCall(waiting.seen, deployment, model_was_loaded, running_before, now)
        return [SendCall(number, deployment.server.name, model.name)]

    def _choose_deployment(self, seen: VisibleCall, now: float) -> Deployment | None:
        call = Call("openai.chat", Operation.CHAT, seen.model or "auto", True, b"-" * (4 * seen.prompt_tokens))
        if not seen.model:
            call.profile = RequestProfile(seen.level, seen.task, context_tokens=seen.prompt_tokens)
        decision = self.router.decide(self.catalog.fleet, call, self.catalog.loads, now)
        for candidate in decision.candidates:
            if candidate.deployment.is_up and candidate.deployment.model.name in seen.allowed_models:
                return candidate.deployment
        if not seen.model:  # no candidate is allowed by the common rules: name the preferred models
            return next(
                (
                    found
                    for model in seen.allowed_models
                    if (found := self._choose_deployment(replace(seen, model=model), now))
                ),
                None,
            )
        return None


def _build_server(name: str, offer: Offer) -> Server:
    priority = Priority.SECONDARY if offer.secondary else Priority.PRIMARY
    return Server(name, "ollama", (f"http://{name}:11434",), priority, max_concurrent=offer.slots)


def _build_model(offer: Offer, loaded: bool) -> Model:
    size = int(offer.disk or offer.size)
    return Model(offer.model, size, is_loaded=loaded, size_vram=int(offer.size) if loaded else 0)
