"""What the gateway says of itself: to people, to the service API's clients, to agent chat's, to monitors."""

from fastapi import APIRouter, Request, Response

from penstock.api.dependencies import ApiDependencies
from penstock.api.json_responses import json_response
from penstock.api.pages import Page
from penstock.api.status import agent_view, views
from penstock.api.status.process_usage import measure_usage
from penstock.api.status.prometheus_gauges import list_gauges
from penstock.api.status.stats_view import render_stats

OLLAMA_IS_RUNNING = "Ollama is running"


class StatusRoutes:
    """The routes that only tell; all of it comes from snapshots, no server is asked."""

    def __init__(self, context: ApiDependencies) -> None:
        self._context = context
        self._index = Page("index.html")

    def build_router(self) -> APIRouter:
        """The routes; those that monitors ask by HEAD answer it."""
        router = APIRouter(tags=["status"])
        for path, handler in (
            ("/", self.get_root),
            ("/health", self.get_health),
            ("/v1/health", self.get_health),
            ("/livez", self.get_liveness),
            ("/readyz", self.get_readiness),
        ):
            router.add_api_route(path, handler, methods=["GET"])
            router.add_api_route(path, handler, methods=["HEAD"], include_in_schema=False)
        for path, handler in (
            ("/models", self.get_models),
            ("/stats", self.get_stats),
            ("/v1/stats", self.get_stats),
            ("/metrics", self.get_metrics),
            ("/api/models/servers", self.get_servers),
            ("/api/chat/status", self.get_chat_status),
            ("/api/chat/models", self.get_chat_models),
        ):
            router.add_api_route(path, handler, methods=["GET"])
        return router

    async def get_root(self, request: Request) -> Response:
        """What this is; a page for browsers."""
        if request.headers.get("user-agent", "").lower().startswith("ollama"):
            return Response(OLLAMA_IS_RUNNING, media_type="text/plain")
        if "text/html" in request.headers.get("accept", ""):
            return self._index.build_response()
        context = self._context
        return json_response(views.render_info(context.version, context.wall(), context.catalog.fleet.is_simulated))

    async def get_health(self) -> Response:
        """How the service and each of its parts are; 503 when nothing can answer."""
        context, settings = self._context, self._context.settings()
        status, body = views.render_health(
            context.catalog.fleet, settings.mode, context.wall(), context.clock(), settings.full_health
        )
        return json_response(body, status)

    async def get_models(self) -> Response:
        """The models there are, in the service API's form."""
        return json_response(views.render_models(self._context.catalog.fleet, self._context.wall()))

    async def get_servers(self) -> Response:
        """The model servers and how each of them is."""
        context = self._context
        return json_response(
            views.render_servers(context.catalog.fleet, context.running(), context.wall(), context.clock())
        )

    async def get_chat_status(self) -> Response:
        """Whether the agent and its reserve can be asked."""
        return json_response(agent_view.render_status(self._context.catalog.fleet))

    async def get_chat_models(self) -> Response:
        """The models of the agent's reserve."""
        return json_response(agent_view.render_models(self._context.catalog.fleet))

    async def get_stats(self) -> Response:
        """Requests, errors, tokens and times, in all and by model and server; what the process and host use."""
        context = self._context
        now = context.clock()
        snapshot = context.meter.take_snapshot(now)
        return json_response(
            render_stats(
                snapshot,
                context.catalog.fleet,
                context.running(),
                measure_usage(),
                now - context.started_at,
                context.wall(),
            )
        )

    async def get_metrics(self) -> Response:
        """Metrics in Prometheus' text format."""
        context = self._context
        body = context.meter.render_prometheus(list_gauges(context, measure_usage()))
        return Response(body, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def get_liveness(self) -> Response:
        """200 as long as the gateway runs."""
        return json_response(b'{"status":"ok"}')

    async def get_readiness(self) -> Response:
        """200 once every server has been looked at, until the gateway stops; 503 else."""
        if self._context.draining():
            return json_response(b'{"status":"stopping"}', 503)
        if not self._context.watcher.has_probed_all:
            return json_response(b'{"status":"starting"}', 503)
        return json_response(b'{"status":"ok"}')
