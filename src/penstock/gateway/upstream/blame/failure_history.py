"""History of requests that failed: on which servers, and whether another one answered them. Bounded; expires.

A request is known by a fingerprint of its wire and body; neither is kept. Pure: times are monotonic seconds.
"""

from collections.abc import Callable
from dataclasses import dataclass

from penstock.domain.request import Call
from penstock.gateway.upstream.blame.verdict import History

MAX_REQUESTS = 1024
TTL = 120.0
"""Seconds for which a failure is remembered: an agent retries within it; later a server may have been mended."""

Fingerprint = int


@dataclass(slots=True)
class FailedRequest:
    """A request that failed: the server where it did first, when, and `refund`, which takes back what was charged."""

    server: str
    failed_at: float
    refund: Callable[[], None] | None
    is_guilty: bool = False
    is_innocent: bool = False


class FailureHistory:
    """Requests that failed within `TTL`."""

    def __init__(self) -> None:
        self._requests: dict[Fingerprint, FailedRequest] = {}

    def find(self, call: Call, server: str, now: float) -> History:
        """Return what servers said to the request before it failed on `server`."""
        failed = self._get(fingerprint_call(call), now)
        if failed is None:
            return History.NEW
        if failed.is_innocent:
            return History.INNOCENT
        if failed.is_guilty:
            return History.GUILTY
        return History.SAME_SERVER if failed.server == server else History.OTHER_SERVER

    def add_charge(self, call: Call, server: str, now: float, refund: Callable[[], None]) -> None:
        """Remember a request whose failure has been charged to a server."""
        key = fingerprint_call(call)
        if self._get(key, now) is None:
            while len(self._requests) >= MAX_REQUESTS:
                del self._requests[next(iter(self._requests))]
            self._requests[key] = FailedRequest(server, now, refund)

    def refund(self, call: Call, now: float) -> None:
        """Take back what was charged for the request: it has failed on a second server."""
        failed = self._get(fingerprint_call(call), now)
        if failed is not None and failed.refund is not None:
            failed.refund()
            failed.refund = None

    def convict(self, call: Call, now: float) -> None:
        """Remember that the request is to blame: no server has answered it."""
        failed = self._get(fingerprint_call(call), now)
        if failed is not None and not failed.is_innocent:
            failed.is_guilty = True

    def acquit(self, call: Call, now: float) -> None:
        """Remember that the request is not to blame: a server has answered it."""
        failed = self._get(fingerprint_call(call), now)
        if failed is not None:
            failed.is_innocent, failed.is_guilty, failed.refund = True, False, None

    def _get(self, key: Fingerprint, now: float) -> FailedRequest | None:
        failed = self._requests.get(key)
        if failed is not None and now - failed.failed_at >= TTL:
            del self._requests[key]
            return None
        return failed


def fingerprint_call(call: Call) -> Fingerprint:
    """Return a number that is the same for the same request; the seed of Python's hashes keeps it secret."""
    return hash((call.wire, call.body))
