"""Court: judges failed attempts by what it remembers, and takes back what was charged to a server for a request."""

from penstock.domain.errors import PenstockError
from penstock.domain.fault import Fault
from penstock.domain.request import Call, Operation
from penstock.domain.routing_decision import Candidate
from penstock.gateway.upstream.blame.failure_history import FailureHistory
from penstock.gateway.upstream.blame.refusal_memory import RefusalMemory
from penstock.gateway.upstream.blame.verdict import History, judge_failure
from penstock.gateway.upstream.targets import Target

MAX_DOUBTFUL_FAILURES = 3
"""Failures in a row from which on a server is suspected itself, whatever other servers say to the same requests."""


class Court:
    """Judges failures. A failure that the same request meets on a second server is the request's.

    That holds as long as one of the two servers answers other requests: where everything fails, the servers are to
    blame.
    """

    def __init__(self) -> None:
        self.refusals = RefusalMemory()
        self._history = FailureHistory()

    def judge(self, call: Call, target: Target, error: PenstockError, answered: bool, now: float) -> Fault:
        """Return whose fault a failed attempt is, and remember what it says about the request and the deployment."""
        is_management = call.operation is Operation.MANAGE
        fault = judge_failure(error, answered=answered, is_management=is_management)
        if fault is Fault.DEPLOYMENT:
            self.refusals.add(call, target.deployment, error, now)
        if fault not in (Fault.MODEL, Fault.SERVER):
            return fault
        server, is_doubtful = target.deployment.server.name, _is_doubtful(target)
        history = self._history.find(call, server, now)
        if history is History.OTHER_SERVER and not is_doubtful:
            self._history.refund(call, now)
        elif is_doubtful:
            history = History.NEW
        fault = judge_failure(error, answered=answered, history=history)
        if fault.is_charged:
            self._remember_charge(call, target, fault, now)
        return fault

    def convict(self, call: Call, now: float) -> None:
        """Remember that every server has failed to answer a request: the next failure of it is final."""
        self._history.convict(call, now)

    def acquit(self, call: Call, now: float) -> None:
        """Remember that a server has answered a request that failed on another: the failure was that server's."""
        self._history.acquit(call, now)

    def sort_candidates(self, call: Call, candidates: tuple[Candidate, ...], now: float) -> tuple[Candidate, ...]:
        """Return the candidates, of each model those last that refused such a request."""
        return self.refusals.sort_candidates(call, candidates, now)

    def _remember_charge(self, call: Call, target: Target, fault: Fault, now: float) -> None:
        load, breakers, last_failed_at = target.load, target.breakers, target.load.last_failed_at

        def refund() -> None:
            breakers.refund(now, fault)
            if load.last_failed_at == now:
                load.last_failed_at = last_failed_at

        self._history.add_charge(call, target.deployment.server.name, now, refund)


def _is_doubtful(target: Target) -> bool:
    """Return whether the server has answered nothing between its last failures."""
    return target.load.consecutive_failures >= MAX_DOUBTFUL_FAILURES
