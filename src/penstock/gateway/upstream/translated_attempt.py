"""Attempt on a server that speaks another wire, or on one whose response another server may have to continue."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from penstock.dialects.json_body import UNREADABLE_ERRORS, create_unreadable_error
from penstock.domain.content import Chat, Content
from penstock.domain.errors import ModelNotFound, PenstockError, Unsupported
from penstock.domain.request import Call, Defaults, Operation
from penstock.engines.base import EngineRequest, FetchFunction, ResponseReader
from penstock.engines.tool_call_readers import FirstCallReader
from penstock.gateway.request_context import RequestContext
from penstock.gateway.resumable_stream import ResumableStream
from penstock.gateway.upstream.local_answers import (
    estimated_count_response,
    load_or_unload_response,
    send_local_response,
)
from penstock.gateway.upstream.provenance import Origin, render_ignored_header
from penstock.gateway.upstream.relay.factory import create_translating_relay
from penstock.gateway.upstream.request_defaults import decode_with_defaults
from penstock.gateway.upstream.round_trip import RoundTrips
from penstock.gateway.upstream.targets import Target
from penstock.gateway.upstream.unsupported_paths import UnsupportedPaths


@dataclass(slots=True)
class _Translation:
    """One translated attempt: `engine_call` is the call as the server gets it, `content` the call decoded."""

    ctx: RequestContext
    target: Target
    origin: Origin
    content: Content
    engine_call: Call


class TranslatedAttempts:
    """Makes translated attempts. `fetch` sends small requests beside the call's own; `clock` is monotonic seconds."""

    def __init__(self, round_trips: RoundTrips, fetch: FetchFunction, clock: Callable[[], float]) -> None:
        self._round_trips = round_trips
        self._fetch = fetch
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._unsupported_paths = UnsupportedPaths()

    async def run(self, ctx: RequestContext, target: Target, origin: Origin, defaults: Defaults) -> None:
        """Make one attempt. Raises the PenstockError that stopped it."""
        call = ctx.call
        if ctx.content is None:
            ctx.content = decode_with_defaults(ctx.endpoint, call, defaults)
        engine_call = call
        if call.use_defaults and defaults.stream and not call.stream:
            engine_call = replace(call, stream=True)
        response = load_or_unload_response(call, ctx.content)
        translation = _Translation(ctx, target, origin, ctx.content, engine_call)
        request: EngineRequest | None = None
        if response is None or ctx.stream is not None:
            try:
                request = _build_request(translation)
            except UNREADABLE_ERRORS as error:
                raise create_unreadable_error(error) from None
            except Unsupported:
                if call.operation is not Operation.COUNT:
                    raise
                response = estimated_count_response(call)
        _name_ignored_fields(translation, request)
        if response is not None:
            send_local_response(ctx, response, origin)
        elif request is not None:
            await self._exchange(translation, request)
        elif ctx.stream is not None and ctx.stream.interrupted is not None:
            ctx.stream.interrupted.complete("length")

    async def _exchange(self, translation: _Translation, request: EngineRequest) -> None:
        """Make the round trip; on 404, one more where older versions of the server have another path."""
        ctx, target = translation.ctx, translation.target
        url = target.deployment.url
        while True:
            if request.fallback is not None and self._unsupported_paths.includes(url, request.path, self._clock()):
                request = request.fallback
                continue
            reader = _create_reader(translation, request)
            relay = ctx.relay = create_translating_relay(
                ctx, translation.origin, reader, self._loop, may_be_polled=request.may_be_polled
            )
            try:
                await self._round_trips.finish(target, self._round_trips.start(target, request, relay), relay)
                if request.may_be_polled:
                    await relay.follow_up(target.deployment, self._fetch, target.timeouts.total)
                return
            except PenstockError as error:
                if relay.status != 404:
                    raise
                if ctx.call.operation is Operation.COUNT:
                    send_local_response(ctx, estimated_count_response(ctx.call), translation.origin)
                    return
                if request.fallback is None or isinstance(error, ModelNotFound):
                    raise
                self._unsupported_paths.add(url, request.path, self._clock())
                request = request.fallback


def prepare_resumption(ctx: RequestContext, defaults: Defaults) -> None:
    """Make the call's stream resumable if the caller or the settings ask for it and its content allows it."""
    flags = ctx.call.flags
    if "resume" in flags or (defaults.resume and "break" not in flags):
        content = ctx.content = decode_with_defaults(ctx.endpoint, ctx.call, defaults)
        ctx.stream = ResumableStream.for_call(ctx.call, content)


def _name_ignored_fields(translation: _Translation, request: EngineRequest | None) -> None:
    """Name the fields that dialect and engine have left out in the headers of the response."""
    names = translation.content.ignored if isinstance(translation.content, Chat) else ()
    if request is not None:
        names += request.ignored
    if names:
        translation.origin.headers += render_ignored_header(names)


def _create_reader(translation: _Translation, request: EngineRequest) -> ResponseReader:
    """Create the reader of a response. It keeps one tool call if the client wants no parallel ones."""
    content = translation.content
    reader = translation.target.engine.create_reader(translation.engine_call, content, request)
    if isinstance(content, Chat) and content.parallel_tool_calls is False and not request.may_be_polled:
        return FirstCallReader(reader)
    return reader


def _build_request(translation: _Translation) -> EngineRequest | None:
    """Return the request for the server; None when a stream has used up its token limit."""
    ctx, target = translation.ctx, translation.target
    engine, model = target.engine, target.deployment.model
    if ctx.stream is not None:
        return ctx.stream.create_request(engine, ctx.call, model)
    return engine.translate_request(translation.engine_call, translation.content, model)
