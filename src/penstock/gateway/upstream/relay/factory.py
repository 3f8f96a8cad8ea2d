"""Choice of the relay for an attempt."""

import asyncio

from penstock.engines.base import ResponseReader
from penstock.gateway.request_context import RequestContext
from penstock.gateway.upstream.provenance import Origin
from penstock.gateway.upstream.relay.passthrough import PassThroughRelay
from penstock.gateway.upstream.relay.polling import PollingRelay
from penstock.gateway.upstream.relay.resumable import ResumableRelay
from penstock.gateway.upstream.relay.translating import TranslatingRelay

create_passthrough_relay = PassThroughRelay
"""Creates the relay for a server that speaks the client's wire. The class itself: a function would cost 0.1 µs."""


def create_translating_relay(
    ctx: RequestContext,
    origin: Origin,
    reader: ResponseReader,
    loop: asyncio.AbstractEventLoop,
    *,
    may_be_polled: bool = False,
) -> TranslatingRelay:
    """Create the relay for a response that is read by `reader`."""
    if ctx.stream is not None:
        return ResumableRelay(ctx, ctx.stream, origin, reader, loop)
    if may_be_polled:
        return PollingRelay(ctx, origin, reader, loop)
    return TranslatingRelay(ctx, origin, reader, loop)
