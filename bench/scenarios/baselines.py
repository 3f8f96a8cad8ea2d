"""Well-known policies. Each sends a call at once to an allowed model on a server that was up."""

import random
from collections import Counter

from bench.scenarios.calls import VisibleCall
from bench.scenarios.policy import Action, Actions, CompletedCall, FailCall, Offer, SendCall

RETRIES = 3


class Immediate:
    """Policy that sends calls on arrival and retries failed ones elsewhere; `choose_offer` differs in subclasses."""

    wake_at: float | None = None

    def start(self, offers: tuple[Offer, ...]) -> None:
        self.offers = offers
        self.up: dict[str, bool] = {offer.server: True for offer in offers}
        self.running: Counter[tuple[str, str]] = Counter()
        self._calls: dict[int, VisibleCall] = {}
        self._targets: dict[int, tuple[str, str]] = {}
        self._tries: Counter[int] = Counter()
        self._unroutable: dict[int, VisibleCall] = {}

    def choose_offer(self, call: VisibleCall, fitting: list[Offer]) -> Offer:
        """Choose one of the allowed offers on servers that are up; offers of the preferred model come first."""
        return fitting[0]

    def on_arrival(self, call: VisibleCall, now: float) -> Actions:
        self._calls[call.number] = call
        return self._send_call(call)

    def on_first_token(self, call: int, now: float) -> Actions:
        return ()

    def on_completion(self, done: CompletedCall, now: float) -> Actions:
        self._release_slot(done.call)
        del self._calls[done.call]
        return ()

    def on_failure(self, call: int, now: float, has_started: bool) -> Actions:
        self.up[self._targets[call][0]] = False
        self._release_slot(call)
        if has_started:
            return ()
        self._tries[call] += 1
        return [FailCall(call)] if self._tries[call] > RETRIES else self._send_call(self._calls[call])

    def on_probe(self, server: str, up: bool, resident: tuple[str, ...], now: float) -> Actions:
        self.up[server] = up
        if not up or not self._unroutable:
            return ()
        waiting, self._unroutable = self._unroutable, {}
        return [action for call in waiting.values() for action in self._send_call(call)]

    def on_timer(self, now: float) -> Actions:
        return ()

    def _send_call(self, call: VisibleCall) -> list[Action]:
        fitting = [
            offer
            for model in call.allowed_models
            for offer in self.offers
            if offer.model == model and self.up[offer.server]
        ]
        if not fitting:
            self._unroutable[call.number] = call  # no suitable server is up: wait until one returns
            return []
        offer = self.choose_offer(call, fitting)
        self._targets[call.number] = (offer.server, offer.model)
        self.running[self._targets[call.number]] += 1
        return [SendCall(call.number, offer.server, offer.model)]

    def _release_slot(self, call: int) -> None:
        self.running[self._targets.pop(call)] -= 1


class FirstCome(Immediate):
    """Policy that sends to the preferred model, on the server with the fewest calls for it."""

    def choose_offer(self, call: VisibleCall, fitting: list[Offer]) -> Offer:
        same = [offer for offer in fitting if offer.model == fitting[0].model]
        return min(same, key=lambda offer: self.running[offer.server, offer.model])


class RoundRobin(Immediate):
    """Policy that takes the offers in turn."""

    def start(self, offers: tuple[Offer, ...]) -> None:
        super().start(offers)
        self._turn: Counter[tuple[str, ...]] = Counter()

    def choose_offer(self, call: VisibleCall, fitting: list[Offer]) -> Offer:
        self._turn[call.allowed_models] += 1
        return fitting[self._turn[call.allowed_models] % len(fitting)]


class LeastConnections(Immediate):
    """Policy that takes the server with the fewest calls, on it the model with the fewest, ties at random."""

    def start(self, offers: tuple[Offer, ...]) -> None:
        super().start(offers)
        self._random = random.Random(1)

    def choose_offer(self, call: VisibleCall, fitting: list[Offer]) -> Offer:
        return min(fitting, key=lambda offer: (*self._count_calls(offer), self._random.random()))

    def _count_calls(self, offer: Offer) -> tuple[int, int]:
        here = sum(count for (server, _), count in self.running.items() if server == offer.server)
        return here, self.running[offer.server, offer.model]


class RandomOfTwo(LeastConnections):
    """Policy that takes the less loaded of two random offers."""

    def choose_offer(self, call: VisibleCall, fitting: list[Offer]) -> Offer:
        two = self._random.sample(fitting, min(2, len(fitting)))
        return min(two, key=self._count_calls)
