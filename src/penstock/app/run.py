"""The process of a gateway: sockets, event loop, garbage collector, and the API beside the inference routes."""

import asyncio
import gc
import logging
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from penstock.api.error_responses import ErrorResponses
from penstock.app.from_settings import describe_unused_settings
from penstock.app.gateway import Gateway
from penstock.app.gateway_status import build_api_dependencies
from penstock.app.memory import return_large_blocks
from penstock.config.reload import Reloader
from penstock.config.settings import Settings
from penstock.log_format import configure_logging
from penstock.serving import routes
from penstock.serving.context import ServingContext
from penstock.serving.origin_policy import OriginPolicy
from penstock.serving.protocol import GatewayProtocol
from penstock.serving.server import (
    App,
    HttpServer,
    ListenOptions,
    Receive,
    Scope,
    Send,
    apply_origin_policy,
    bind_socket,
)
from penstock.storage.data_dir import DataDirInUseError, claim_data_dir

log = logging.getLogger("penstock")

GC_THRESHOLDS = (20_000, 20, 20)
"""Requests leave no reference cycles, so the collector runs less often than by default (every 700 new objects)."""


@dataclass(frozen=True, slots=True)
class ReloadSource:
    """Source of reloads: `load` reads the settings again, a change of `files` triggers it."""

    load: Callable[[], Settings]
    files: Sequence[Path]


def run_gateway(settings: Settings, source: ReloadSource) -> int:
    """Run a gateway until a signal stops it; return the exit code of the process."""
    configure_logging(settings.server.log_format, settings.server.log_level, settings.server.log_file)
    for warning in (*settings.warnings, *describe_unused_settings(settings)):
        log.warning("%s", warning)
    return_large_blocks()
    host, port = settings.server.host, settings.server.port
    try:
        bound = bind_socket(host, port)
    except OSError as error:
        sys.stderr.write(f"penstock: Cannot listen on {host}:{port}: {error.strerror}. Choose another --port.\n")
        return 1
    try:
        with claim_data_dir(settings.data_dir), asyncio.Runner(loop_factory=_find_loop_factory()) as runner:
            return runner.run(_serve(settings, bound, source))
    except DataDirInUseError as error:
        sys.stderr.write(f"penstock: {error}\n")
        return 1


def _find_loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415  # lazy: not on Windows
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _serve(settings: Settings, bound: socket.socket, source: ReloadSource) -> int:
    loop = asyncio.get_running_loop()
    gateway = Gateway(settings, bound.getsockname()[1])
    origin_policy = OriginPolicy(frozenset(settings.server.allowed_hosts), frozenset(settings.server.cors_origins))
    api = loop.create_task(asyncio.to_thread(_build_api, gateway, origin_policy))
    server = _build_server(gateway, origin_policy, _wait_for_api(api))
    reloader = Reloader(source.load, settings, gateway.apply, source.files)
    watching = loop.create_task(reloader.run())
    try:
        await gateway.start()
        api.add_done_callback(_tune_garbage_collector)
        await server.serve([bound])
    finally:
        watching.cancel()
        await gateway.stop()
    return 0


def _build_server(gateway: Gateway, origin_policy: OriginPolicy, api: App) -> HttpServer:
    listen = gateway.settings.server
    table = routes.build_route_table(gateway.dialects)
    protocol = GatewayProtocol.for_context(ServingContext(gateway.pipeline, table, origin_policy, listen.max_body))
    error_responses = ErrorResponses(gateway.dialects)
    app = apply_origin_policy(api, origin_policy, lambda path, error: error_responses.render(path, error, ""))
    options = ListenOptions(keep_alive=listen.keep_alive, drain=listen.drain_seconds)
    return HttpServer(app, protocol, options, gateway.drain)


def _build_api(gateway: Gateway, origin_policy: OriginPolicy) -> App:
    """Build the API and load the classifier's weights.

    Importing FastAPI takes most of the time of a start, so this runs in a thread and inference does not wait for it.
    """
    from penstock.api.app import build_app  # noqa: PLC0415  # lazy: half a second of imports, in a thread

    gateway.pipeline.classifier.load_weights()
    return build_app(build_api_dependencies(gateway, origin_policy))


def _wait_for_api(api: "asyncio.Task[App]") -> App:
    """Return an application whose requests wait until the API is built."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await (await asyncio.shield(api))(scope, receive, send)

    return app


def _tune_garbage_collector(_: object) -> None:
    """Exclude what has been imported and built from collection, and collect less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
