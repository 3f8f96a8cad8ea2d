"""Reference policy for the gateway.

It sends a call to the model with the earliest expected first token, keeps calls that would only queue on a server, and
lets a busy model finish its waiting calls before another replaces it.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from bench.scenarios.calls import VisibleCall
from bench.scenarios.learning import LearnedSpeed
from bench.scenarios.policy import Action, Actions, CompletedCall, FailCall, Offer, SendCall
from bench.scenarios.server_view import ServerView

RETRIES = 3


@dataclass(frozen=True, slots=True)
class Rules:
    """Parameters of the policy.

    `fairness`: seconds that a call waits for a model before the one in its way gets no more calls. `eviction_weight`:
    weight of the time to reload evicted models. `idle_half_life`: seconds of idleness after which a reload is half as
    likely. `slot_weight`: weight of the time that a response occupies its slot.
    """

    fairness: float = 60.0
    eviction_weight: float = 1.0
    idle_half_life: float = 300.0
    slot_weight: float = 0.2


@dataclass(slots=True)
class WaitingCall:
    """Call that is not running, with its number of attempts."""

    call: VisibleCall
    tries: int = 0


class Reference:
    """Policy by expected time to first token, with late binding and batched swaps."""

    def __init__(self, rules: Rules | None = None) -> None:
        self.rules = rules or Rules()
        self.wake_at: float | None = None
        self._waiting: dict[int, WaitingCall] = {}
        self._sent: dict[int, tuple[WaitingCall, ServerView, str]] = {}

    def start(self, offers: tuple[Offer, ...]) -> None:
        self.servers: dict[str, ServerView] = {}
        self.speeds: dict[tuple[str, str], LearnedSpeed] = {}
        for offer in offers:
            server = self.servers.setdefault(offer.server, ServerView(offer.server))
            server.offers[offer.model] = offer
            self.speeds[offer.server, offer.model] = LearnedSpeed.estimate(offer)

    def on_arrival(self, call: VisibleCall, now: float) -> Actions:
        self._waiting[call.number] = WaitingCall(call)
        return self._schedule_calls(now)

    def on_first_token(self, call: int, now: float) -> Actions:
        _, server, model = self._sent[call]
        server.finish_loading(model, now)
        return self._schedule_calls(now)

    def on_completion(self, done: CompletedCall, now: float) -> Actions:
        waiting, server, model = self._sent.pop(done.call)
        server.running[model] -= 1
        server.mark_used(model, now)
        self.speeds[server.name, model].update(done, waiting.call.prompt_tokens)
        return self._schedule_calls(now)

    def on_failure(self, call: int, now: float, has_started: bool) -> Actions:
        waiting, server, model = self._sent.pop(call)
        server.mark_down()
        server.running[model] -= 1
        waiting.tries += 1
        if not has_started and waiting.tries > RETRIES:
            return [FailCall(call), *self._schedule_calls(now)]
        if not has_started:
            self._waiting[call] = waiting
        return self._schedule_calls(now)

    def on_probe(self, server: str, up: bool, resident: tuple[str, ...], now: float) -> Actions:
        view = self.servers[server]
        if up:
            view.is_up = True
            view.reconcile(resident, now)
        else:
            view.mark_down()
        return self._schedule_calls(now)

    def on_timer(self, now: float) -> Actions:
        return self._schedule_calls(now)

    def _schedule_calls(self, now: float) -> list[Action]:
        """Go through the waiting calls in order: send them or swap for them. Runs after every event."""
        actions: list[Action] = []
        self.wake_at = None
        ahead: Counter[tuple[str, str]] = Counter()
        swaps: dict[tuple[str, str], list[WaitingCall]] = {}
        for waiting in list(self._waiting.values()):
            best = self._choose_server(waiting.call, ahead, now)
            if best is None:
                continue
            server, model = best
            if not server.accepts_calls(model):
                swaps.setdefault((server.name, model), []).append(waiting)
            elif server.has_free_slot(model):
                actions.append(self._send_call(waiting, server, model))
            else:
                ahead[server.name, model] += 1
        for (name, model), batch in swaps.items():
            actions += self._swap_models(self.servers[name], model, batch, now)
        for server in self.servers.values():
            if server.draining and (server.name, server.drained_for) not in swaps:
                server.stop_draining()  # no call waits for it any more
                self._set_timer(now)
        return actions

    def _choose_server(
        self, call: VisibleCall, ahead: Counter[tuple[str, str]], now: float
    ) -> tuple[ServerView, str] | None:
        """Return server and model with the least expected time to first token, plus a share of the slot time."""
        best, lowest = None, float("inf")
        for server, model in self._list_candidates(call):
            seconds = self._estimate_wait(call, server, model, ahead[server.name, model], now)
            if seconds < lowest:
                best, lowest = (server, model), seconds
        return best

    def _list_candidates(self, call: VisibleCall) -> Iterator[tuple[ServerView, str]]:
        for model in call.allowed_models:
            for server in self.servers.values():
                if server.is_up and model in server.offers:
                    yield server, model

    def _estimate_wait(self, call: VisibleCall, server: ServerView, model: str, ahead: int, now: float) -> float:
        """Estimate the cost in seconds: queue, loading, blockers and prefill, plus weighted slot and eviction costs."""
        speed, slots = self.speeds[server.name, model], server.offers[model].slots
        seconds = call.prompt_tokens / speed.prefill + self.rules.slot_weight * speed.slot_seconds
        if server.accepts_calls(model):
            over = server.running[model] + ahead + 1 - slots
            seconds += speed.slot_seconds * over / slots if over > 0 else 0.0
            if model == server.loading:
                seconds += max(0.0, speed.load - (now - server.loading_since))
            return seconds
        victims = server.find_victims(model)
        if victims is None or model in server.draining:
            victims = self._find_blockers(server, model)
            seconds += 0.5 * sum(self.speeds[server.name, victim].slot_seconds for victim in victims)
        harm = sum(self._eviction_cost(server, victim, now) for victim in victims)
        return seconds + speed.load + self.rules.eviction_weight * harm

    def _find_blockers(self, server: ServerView, model: str) -> tuple[str, ...]:
        return server.find_blockers(model, lambda other: self.speeds[server.name, other].load)

    def _eviction_cost(self, server: ServerView, victim: str, now: float) -> float:
        """Return the cost of an eviction: reloading, which is less likely the longer the model has been idle."""
        idle = 0.0 if server.running[victim] else now - server.resident[victim]
        return self.speeds[server.name, victim].load * self.rules.idle_half_life / (self.rules.idle_half_life + idle)

    def _swap_models(self, server: ServerView, model: str, batch: list[WaitingCall], now: float) -> list[Action]:
        """Load a model for its waiting calls once the blockers are idle; after `fairness` seconds drain them."""
        if server.loading or model in server.resident or (server.draining and server.drained_for != model):
            return []
        victims = server.find_victims(model)
        if victims is None:
            drain_at = batch[0].call.arrived_at + self.rules.fairness
            if now < drain_at:
                self._set_timer(drain_at)
            elif not server.draining:
                server.draining, server.drained_for = self._find_blockers(server, model), model
            return []
        server.start_loading(model, victims, now)
        return [self._send_call(waiting, server, model) for waiting in batch[: server.offers[model].slots]]

    def _set_timer(self, at: float) -> None:
        self.wake_at = at if self.wake_at is None else min(self.wake_at, at)

    def _send_call(self, waiting: WaitingCall, server: ServerView, model: str) -> SendCall:
        del self._waiting[waiting.call.number]
        self._sent[waiting.call.number] = waiting, server, model
        server.running[model] += 1
        return SendCall(waiting.call.number, server.name, model)
