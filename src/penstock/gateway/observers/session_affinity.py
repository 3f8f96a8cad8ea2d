"""Observer that remembers which server answered a session."""

from collections.abc import Callable

from penstock.gateway.request_context import RequestContext


class SessionRecorder:
    """Passes each session and the server that answered it to `remember(session, server)`."""

    def __init__(self, remember: Callable[[bytes, str], None]) -> None:
        self._remember = remember

    def observe_call(self, ctx: RequestContext) -> None:
        """Remember the server, if the call has a session and succeeded."""
        session = ctx.call.session
        if session and ctx.failure is None and ctx.deployment is not None:
            self._remember(session, ctx.deployment.server.name)
