"""The policy that the gateway should have: send to the model that will speak first, keep what would only wait, and let
a model at work finish all its calls before another takes its place."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from bench.scenarios.calls import Seen
from bench.scenarios.learning import Pace
from bench.scenarios.place import Place
from bench.scenarios.policy import Act, Acts, Done, GiveUp, Offer, Send

RETRIES = 3


@dataclass(frozen=True, slots=True)
class Rules:
    """`fairness`: seconds that the oldest call waits for a model before the one in its way gets no more calls.
    `harm`: how much the reloading of evicted models counts, as a share of its time; `cooling`: seconds of idleness
    after which that is half as likely. `whole`: how much the time that an answer holds its slot counts."""

    fairness: float = 60.0
    harm: float = 1.0
    cooling: float = 300.0
    whole: float = 0.2


@dataclass(slots=True)
class Waiting:
    call: Seen
    tries: int = 0


class Reference:
    """Expected time to first token, late binding, and swaps in batches."""

    def __init__(self, rules: Rules | None = None) -> None:
        self.rules = rules or Rules()
        self.wake_at: float | None = None
        self._room: dict[int, Waiting] = {}
        self._sent: dict[int, tuple[Waiting, Place, str]] = {}

    def start(self, offers: tuple[Offer, ...]) -> None:
        self.places: dict[str, Place] = {}
        self.paces: dict[tuple[str, str], Pace] = {}
        for offer in offers:
            place = self.places.setdefault(offer.server, Place(offer.server))
            place.offers[offer.model] = offer
            self.paces[offer.server, offer.model] = Pace.guessed(offer)

    def arrived(self, call: Seen, now: float) -> Acts:
        self._room[call.number] = Waiting(call)
        return self._settle(now)

    def began(self, call: int, now: float) -> Acts:
        _, place, model = self._sent[call]
        place.spoke(model, now)
        return self._settle(now)

    def ended(self, done: Done, now: float) -> Acts:
        waiting, place, model = self._sent.pop(done.call)
        place.running[model] -= 1
        place.used(model, now)
        self.paces[place.name, model].learn(done, waiting.call.prompt_tokens)
        return self._settle(now)

    def failed(self, call: int, now: float, begun: bool) -> Acts:
        waiting, place, model = self._sent.pop(call)
        place.lose()
        place.running[model] -= 1
        waiting.tries += 1
        if not begun and waiting.tries > RETRIES:
            return [GiveUp(call), *self._settle(now)]
        if not begun:
            self._room[call] = waiting
        return self._settle(now)

    def looked(self, server: str, up: bool, resident: tuple[str, ...], now: float) -> Acts:
        place = self.places[server]
        if up:
            place.up = True
            place.look(resident, now)
        else:
            place.lose()
        return self._settle(now)

    def woken(self, now: float) -> Acts:
        return self._settle(now)

    def _settle(self, now: float) -> list[Act]:
        """Go through who waits, in order: send, or say what for. Run after everything that changes anything."""
        acts: list[Act] = []
        self.wake_at = None
        ahead: Counter[tuple[str, str]] = Counter()
        wanted: dict[tuple[str, str], list[Waiting]] = {}
        for waiting in list(self._room.values()):
            best = self._best(waiting.call, ahead, now)
            if best is None:
                continue
            place, model = best
            if not place.open_to(model):
                wanted.setdefault((place.name, model), []).append(waiting)
            elif place.free(model):
                acts.append(self._send(waiting, place, model))
            else:
                ahead[place.name, model] += 1
        for (server, model), batch in wanted.items():
            acts += self._swap(self.places[server], model, batch, now)
        for place in self.places.values():
            if place.draining and (place.name, place.drained_for) not in wanted:
                place.stop_draining()  # nobody waits for it any more
                self._wake(now)
        return acts

    def _best(self, call: Seen, ahead: Counter[tuple[str, str]], now: float) -> tuple[Place, str] | None:
        """Where it should go: the least expected time to first token, and a little for the time to the end."""
        best, least = None, float("inf")
        for place, model in self._candidates(call):
            seconds = self._expected(call, place, model, ahead[place.name, model], now)
            if seconds < least:
                best, least = (place, model), seconds
        return best

    def _candidates(self, call: Seen) -> Iterator[tuple[Place, str]]:
        for model in call.fits:
            for place in self.places.values():
                if place.up and model in place.offers:
                    yield place, model

    def _expected(self, call: Seen, place: Place, model: str, ahead: int, now: float) -> float:
        """Seconds to the first token: the queue, loading and what is in its way, reading; and the weighed rest."""
        pace, slots = self.paces[place.name, model], place.offers[model].slots
        seconds = call.prompt_tokens / pace.prefill + self.rules.whole * pace.hold
        if place.open_to(model):
            over = place.running[model] + ahead + 1 - slots
            seconds += pace.hold * over / slots if over > 0 else 0.0
            if model == place.loading:
                seconds += max(0.0, pace.load - (now - place.loading_since))
            return seconds
        victims = place.victims(model)
        if victims is None or model in place.draining:
            victims = self._in_the_way(place, model)
            seconds += 0.5 * sum(self.paces[place.name, victim].hold for victim in victims)
        harm = sum(self._harm(place, victim, now) for victim in victims)
        return seconds + pace.load + self.rules.harm * harm

    def _in_the_way(self, place: Place, model: str) -> tuple[str, ...]:
        return place.in_the_way(model, lambda other: self.paces[place.name, other].load)

    def _harm(self, place: Place, victim: str, now: float) -> float:
        """What an eviction costs others: loading it again, the less likely the longer it has been idle."""
        idle = 0.0 if place.running[victim] else now - place.resident[victim]
        return self.paces[place.name, victim].load * self.rules.cooling / (self.rules.cooling + idle)

    def _swap(self, place: Place, model: str, batch: list[Waiting], now: float) -> list[Act]:
        """Load it for all who wait, as soon as those in its way are idle; after a while make them so."""
        if place.loading or model in place.resident or (place.draining and place.drained_for != model):
            return []
        victims = place.victims(model)
        if victims is None:
            patient_until = batch[0].call.arrived + self.rules.fairness
            if now < patient_until:
                self._wake(patient_until)
            elif not place.draining:
                place.draining, place.drained_for = self._in_the_way(place, model), model
            return []
        place.load(model, victims, now)
        return [self._send(waiting, place, model) for waiting in batch[: place.offers[model].slots]]

    def _wake(self, at: float) -> None:
        self.wake_at = at if self.wake_at is None else min(self.wake_at, at)

    def _send(self, waiting: Waiting, place: Place, model: str) -> Send:
        del self._room[waiting.call.number]
        self._sent[waiting.call.number] = waiting, place, model
        place.running[model] += 1
        return Send(waiting.call.number, place.name, model)
