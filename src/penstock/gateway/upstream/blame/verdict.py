"""Verdict on a failed attempt: whose fault it is. Pure.

`judge_failure` is the only function that decides it, for every dialect and engine. It knows the error, in which the
engine has read the server's words, and what servers said to the same request before.
"""

import enum

from penstock.domain.errors import (
    ClientGone,
    ClientStalled,
    ConnectFailed,
    ContextLengthExceeded,
    ModelNotFound,
    PenstockError,
    RequestRefused,
    ShuttingDown,
    Unsupported,
    UpstreamCut,
    UpstreamGarbage,
    UpstreamStatus,
    UpstreamTimeout,
)
from penstock.domain.fault import Fault
from penstock.engines.failure_words import BUSY_WORDS

_ALWAYS_BUSY = frozenset({425, 429})
_BUSY_BY_WORDS = frozenset({503, 529})


class History(enum.Enum):
    """Results of the same request before.

    NEW: nothing. SAME_SERVER: it failed, on this server only. OTHER_SERVER: it failed, on another one too. GUILTY: it
    failed on several servers, and none was left to ask. INNOCENT: it failed, and another server answered it.
    """

    NEW = "new"
    SAME_SERVER = "same server"
    OTHER_SERVER = "other server"
    GUILTY = "guilty"
    INNOCENT = "innocent"


def judge_failure(
    error: PenstockError, *, answered: bool, history: History = History.NEW, is_management: bool = False
) -> Fault:
    """Return whose fault a failed attempt is.

    `answered`: the server sent an error response with a status of its own. `history` are the results of the
    same request before. `is_management`: it manages models, and says nothing of how they answer.
    """
    if isinstance(error, ClientGone | ClientStalled | ShuttingDown):
        return Fault.NOBODY
    if isinstance(error, ConnectFailed):
        return Fault.UNREACHABLE
    if isinstance(error, Unsupported | ContextLengthExceeded | ModelNotFound) or is_forbidden(error):
        return Fault.DEPLOYMENT
    if is_busy(error):
        return Fault.BUSY
    if not error.retryable or isinstance(error, RequestRefused) or (is_management and answered):
        return Fault.REQUEST
    return _judge_by_history(error, answered, history)


def _judge_by_history(error: PenstockError, answered: bool, history: History) -> Fault:
    """Return whose fault a failure is whose words do not say it."""
    if history is History.GUILTY and answered and error.status == 500:
        return Fault.REQUEST  # cuts, silence and a proxy's statuses may have another cause each time
    if history in (History.GUILTY, History.SAME_SERVER, History.OTHER_SERVER):
        return Fault.UNPROVEN
    if isinstance(error, UpstreamTimeout | UpstreamCut | UpstreamGarbage) and not answered:
        return Fault.SERVER
    return Fault.MODEL


def is_busy(error: PenstockError) -> bool:
    """Return whether the server is sound and has no room for the request now."""
    if not isinstance(error, UpstreamStatus):
        return False
    if error.status in _ALWAYS_BUSY or error.kind == "busy":
        return True
    return error.status in _BUSY_BY_WORDS and BUSY_WORDS.search(error.message) is not None


def is_forbidden(error: PenstockError) -> bool:
    """Return whether the server forbids this request, and not the gateway as such."""
    return isinstance(error, UpstreamStatus) and error.status == 403
