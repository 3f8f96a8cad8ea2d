"""The policies that everyone knows. Each sends a call at once, to a model that fits on a server that was up."""

import random
from collections import Counter

from bench.scenarios.calls import Seen
from bench.scenarios.policy import Act, Acts, Done, GiveUp, Offer, Send

RETRIES = 3


class Immediate:
    """Sends what arrives at once, and what fails once more elsewhere. `choose` is what makes the difference."""

    wake_at: float | None = None

    def start(self, offers: tuple[Offer, ...]) -> None:
        self.offers = offers
        self.up: dict[str, bool] = {offer.server: True for offer in offers}
        self.running: Counter[tuple[str, str]] = Counter()
        self._calls: dict[int, Seen] = {}
        self._where: dict[int, tuple[str, str]] = {}
        self._tries: Counter[int] = Counter()
        self._homeless: dict[int, Seen] = {}

    def choose(self, call: Seen, fitting: list[Offer]) -> Offer:
        """One of those that may answer, all on servers that are up; the preferred model's first."""
        return fitting[0]

    def arrived(self, call: Seen, now: float) -> Acts:
        self._calls[call.number] = call
        return self._place(call)

    def began(self, call: int, now: float) -> Acts:
        return ()

    def ended(self, done: Done, now: float) -> Acts:
        self._release(done.call)
        del self._calls[done.call]
        return ()

    def failed(self, call: int, now: float, begun: bool) -> Acts:
        self.up[self._where[call][0]] = False
        self._release(call)
        if begun:
            return ()
        self._tries[call] += 1
        return [GiveUp(call)] if self._tries[call] > RETRIES else self._place(self._calls[call])

    def looked(self, server: str, up: bool, resident: tuple[str, ...], now: float) -> Acts:
        self.up[server] = up
        if not up or not self._homeless:
            return ()
        waiting, self._homeless = self._homeless, {}
        return [act for call in waiting.values() for act in self._place(call)]

    def woken(self, now: float) -> Acts:
        return ()

    def _place(self, call: Seen) -> list[Act]:
        fitting = [
            offer for model in call.fits for offer in self.offers if offer.model == model and self.up[offer.server]
        ]
        if not fitting:
            self._homeless[call.number] = call  # nobody that may answer is up: it waits for one to return
            return []
        offer = self.choose(call, fitting)
        self._where[call.number] = (offer.server, offer.model)
        self.running[self._where[call.number]] += 1
        return [Send(call.number, offer.server, offer.model)]

    def _release(self, call: int) -> None:
        self.running[self._where.pop(call)] -= 1


class FirstCome(Immediate):
    """First come, first served: always the preferred model, on the server with the fewest calls for it."""

    def choose(self, call: Seen, fitting: list[Offer]) -> Offer:
        same = [offer for offer in fitting if offer.model == fitting[0].model]
        return min(same, key=lambda offer: self.running[offer.server, offer.model])


class RoundRobin(Immediate):
    """Each model on a server in turn."""

    def start(self, offers: tuple[Offer, ...]) -> None:
        super().start(offers)
        self._turn: Counter[tuple[str, ...]] = Counter()

    def choose(self, call: Seen, fitting: list[Offer]) -> Offer:
        self._turn[call.fits] += 1
        return fitting[self._turn[call.fits] % len(fitting)]


class LeastConnections(Immediate):
    """The server with the fewest calls, and on it the model with the fewest; of equals, whichever."""

    def start(self, offers: tuple[Offer, ...]) -> None:
        super().start(offers)
        self._chance = random.Random(1)

    def choose(self, call: Seen, fitting: list[Offer]) -> Offer:
        return min(fitting, key=lambda offer: (*self._load(offer), self._chance.random()))

    def _load(self, offer: Offer) -> tuple[int, int]:
        here = sum(count for (server, _), count in self.running.items() if server == offer.server)
        return here, self.running[offer.server, offer.model]


class RandomOfTwo(LeastConnections):
    """The less loaded of two picked at random."""

    def choose(self, call: Seen, fitting: list[Offer]) -> Offer:
        two = self._chance.sample(fitting, min(2, len(fitting)))
        return min(two, key=self._load)
