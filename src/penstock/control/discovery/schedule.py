"""Times of the probes of one server. Pure: clock and randomness are handed in."""

from dataclasses import dataclass

from penstock.domain.backoff import backoff_delay

MIN_PROBE_GAP = 1.0
"""Seconds between two probes of one server, however many calls to it fail."""

MAX_RETRY_INTERVAL = 8.0
"""Seconds between two probes of a server that is down, so that one that comes back serves again within ten."""


@dataclass(slots=True)
class ProbeSchedule:
    """Time of the next probe of one server. Times are monotonic seconds.

    A server that answers is probed every `interval` (± 10 %). One that fails is probed after `first_retry`, then after
    twice that, and so on up to `MAX_RETRY_INTERVAL`. After a failed call it is probed at once, unless the last probe
    began less than `MIN_PROBE_GAP` ago.
    """

    interval: float = 30.0
    first_retry: float = 1.0
    failures: int = 0
    started_at: float = float("-inf")
    next_at: float = float("-inf")
    is_probing: bool = False
    is_probe_requested: bool = False
    is_urgent: bool = False

    def start_probe(self, now: float) -> None:
        """Note that a probe begins."""
        self.started_at = now
        self.is_probing = True
        self.is_probe_requested = self.is_urgent = False

    def finish_probe(self, now: float, succeeded: bool, random: float) -> None:
        """Schedule the next probe; `random` in [0, 1) spreads it."""
        self.is_probing = False
        self.failures = 0 if succeeded else self.failures + 1
        max_wait = min(self.interval, MAX_RETRY_INTERVAL)
        wait = self.interval if succeeded else backoff_delay(self.failures, self.first_retry, max_wait)
        self.next_at = now + wait * (0.9 + 0.2 * random)
        if self.is_probe_requested:
            self.request_probe(now, self.is_urgent)

    def finish_without_server(self, now: float, interval: float, random: float) -> None:
        """Schedule the next probe of an address that nobody configured and where nothing was found."""
        self.is_probing = False
        self.next_at = now + interval * (0.9 + 0.2 * random)

    def is_outdated(self, now: float) -> bool:
        """Return True if a probe may bring news: the last one is older than the gap, or the next one is due."""
        return self.is_probing or now - self.started_at >= MIN_PROBE_GAP or self.next_at - now <= MIN_PROBE_GAP

    def request_probe(self, now: float, is_urgent: bool = False) -> bool:
        """Probe as soon as the gap allows, at once if it is urgent. Return True if that is sooner than planned."""
        if self.is_probing:
            self.is_probe_requested = True
            self.is_urgent |= is_urgent
            return False
        earliest = now if is_urgent else max(now, self.started_at + MIN_PROBE_GAP)
        if earliest >= self.next_at:
            return False
        self.next_at = earliest
        return True
