"""Fault for a failed attempt."""

import enum


class Fault(enum.Enum):
    """Party whose fault a failed attempt is.

    REQUEST: no server would accept it; nobody is charged and no other server is asked. DEPLOYMENT: this model on this
    server cannot do it, another one may; nobody is charged. BUSY: the server is sound and has no room; nobody is
    charged, others are asked, then the same again. NOBODY: the client left, or the gateway stops. UNPROVEN: the same
    request has failed there before, so that it says nothing new; others are asked.

    MODEL and SERVER are charged to the breaker of the model on that server, and to both breakers; UNREACHABLE opens the
    server's. Others are asked.
    """

    REQUEST = "request"
    DEPLOYMENT = "deployment"
    BUSY = "busy"
    NOBODY = "nobody"
    UNPROVEN = "unproven"
    MODEL = "model"
    SERVER = "server"
    UNREACHABLE = "unreachable"

    @property
    def is_final(self) -> bool:
        """True if no other attempt can help."""
        return self in (Fault.REQUEST, Fault.NOBODY)

    @property
    def is_charged(self) -> bool:
        """True if it counts against a server."""
        return self in (Fault.MODEL, Fault.SERVER, Fault.UNREACHABLE)
