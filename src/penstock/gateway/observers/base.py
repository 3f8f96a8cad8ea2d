"""Interface of an observer."""

from typing import Protocol

from penstock.gateway.request_context import RequestContext


class CallObserver(Protocol):
    """Receives every call once, after its response has ended or its client has disconnected.

    Observers run on the event loop, one after the other, between two calls: they must be quick and must not block. What
    takes longer is collected here and done elsewhere, in batches. They may keep values of the context, but not the
    context itself: it holds the request's body.
    """

    def observe_call(self, ctx: RequestContext) -> None:
        """Take note of a finished call. An error that is raised here is logged and costs the call nothing."""
        ...
