"""What the gateway says of itself: to people, to the service API's clients, to agent chat's, to monitors."""

from fastapi import APIRouter, Request, Response

from penstock.api.dependencies import ConsoleContext
from penstock.api.json_responses import json_reply
from penstock.api.pages import Page
from penstock.api.status import agent_view, views
from penstock.api.status.process_usage import measure
from penstock.api.status.prometheus_gauges import gauges
from penstock.api.status.stats_view import draw

OLLAMA_IS_RUNNING = "Ollama is running"


class Status:
    """The routes that only tell; all of it comes from snapshots, no server is asked."""

    def __init__(self, context: ConsoleContext) -> None:
        self._context = context
        self._index = Page("index.html")

    def routes(self) -> APIRouter:
        """The routes; those that monitors ask by HEAD answer it."""
        router = APIRouter(tags=["status"])
        for path, handler in (
            ("/", self.root),
            ("/health", self.health),
            ("/v1/health", self.health),
            ("/livez", self.alive),
            ("/readyz", self.ready),
        ):
            router.add_api_route(path, handler, methods=["GET"])
            router.add_api_route(path, handler, methods=["HEAD"], include_in_schema=False)
        for path, handler in (
            ("/models", self.models),
            ("/stats", self.stats),
            ("/v1/stats", self.stats),
            ("/metrics", self.metrics),
            ("/api/models/servers", self.servers),
            ("/api/chat/status", self.chat_status),
            ("/api/chat/models", self.chat_models),
        ):
            router.add_api_route(path, handler, methods=["GET"])
        return router

    async def root(self, request: Request) -> Response:
        """What this is; a page for browsers."""
        if request.headers.get("user-agent", "").lower().startswith("ollama"):
            return Response(OLLAMA_IS_RUNNING, media_type="text/plain")
        if "text/html" in request.headers.get("accept", ""):
            return self._index.reply()
        context = self._context
        return json_reply(views.info(context.version, context.wall(), context.catalog.fleet.is_simulated))

    async def health(self) -> Response:
        """How the service and each of its parts are; 503 when nothing can answer."""
        context, settings = self._context, self._context.settings()
        status, body = views.health(
            context.catalog.fleet, settings.mode, context.wall(), context.clock(), settings.full_health
        )
        return json_reply(body, status)

    async def models(self) -> Response:
        """The models there are, in the service API's form."""
        return json_reply(views.models(self._context.catalog.fleet, self._context.wall()))

    async def servers(self) -> Response:
        """The model servers and how each of them is."""
        context = self._context
        return json_reply(views.servers(context.catalog.fleet, context.running(), context.wall(), context.clock()))

    async def chat_status(self) -> Response:
        """Whether the agent and its reserve can be asked."""
        return json_reply(agent_view.status(self._context.catalog.fleet))

    async def chat_models(self) -> Response:
        """The models of the agent's reserve."""
        return json_reply(agent_view.models(self._context.catalog.fleet))

    async def stats(self) -> Response:
        """Requests, errors, tokens and times, in all and by model and server; what the process and host use."""
        context = self._context
        now = context.clock()
        snapshot = context.meter.snapshot(now)
        return json_reply(
            draw(
                snapshot, context.catalog.fleet, context.running(), measure(), now - context.started_at, context.wall()
            )
        )

    async def metrics(self) -> Response:
        """Metrics in Prometheus' text format."""
        context = self._context
        body = context.meter.exposition(gauges(context, measure()))
        return Response(body, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def alive(self) -> Response:
        """200 as long as the gateway runs."""
        return json_reply(b'{"status":"ok"}')

    async def ready(self) -> Response:
        """200 once every server has been looked at, until the gateway stops; 503 else."""
        if self._context.draining():
            return json_reply(b'{"status":"stopping"}', 503)
        if not self._context.watcher.looked:
            return json_reply(b'{"status":"starting"}', 503)
        return json_reply(b'{"status":"ok"}')
