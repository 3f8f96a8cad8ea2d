"""Routes about the gateway itself: health, models, servers, statistics, metrics and probes."""

from fastapi import APIRouter, Request, Response

from penstock.api.dependencies import ApiDependencies
from penstock.api.json_responses import json_response
from penstock.api.pages import Page
from penstock.api.status import agent_view, views
from penstock.api.status.process_usage import measure_usage
from penstock.api.status.prometheus_gauges import list_gauges
from penstock.api.status.stats_view import render_stats

OLLAMA_GREETING = "Ollama is running"


class StatusRoutes:
    """Read-only routes, served from snapshots; none sends a request to a model server."""

    def __init__(self, deps: ApiDependencies) -> None:
        self._deps = deps
        self._index = Page("index.html")

    def build_router(self) -> APIRouter:
        """Build the routes; those for monitoring also support HEAD."""
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
        """Describe the service; browsers get a page."""
        if request.headers.get("user-agent", "").lower().startswith("ollama"):
            return Response(OLLAMA_GREETING, media_type="text/plain")
        if "text/html" in request.headers.get("accept", ""):
            return self._index.build_response()
        deps = self._deps
        return json_response(views.render_info(deps.version, deps.wall(), is_simulated=deps.catalog.fleet.is_simulated))

    async def get_health(self) -> Response:
        """Return the health of the service and of each provider; 503 when no model server can answer."""
        deps, settings = self._deps, self._deps.gateway.api_settings
        status, body = views.render_health(
            deps.catalog.fleet, settings.mode, deps.wall(), deps.clock(), full=settings.full_health
        )
        return json_response(body, status)

    async def get_models(self) -> Response:
        """List the models, in the format of the service API."""
        return json_response(views.render_models(self._deps.catalog.fleet, self._deps.wall()))

    async def get_servers(self) -> Response:
        """List the model servers with their state."""
        deps = self._deps
        return json_response(views.render_servers(deps.catalog.fleet, deps.count_running(), deps.wall(), deps.clock()))

    async def get_chat_status(self) -> Response:
        """Return the state of the agent and of its fallback."""
        return json_response(agent_view.render_status(self._deps.catalog.fleet))

    async def get_chat_models(self) -> Response:
        """List the models of the agent's fallback."""
        return json_response(agent_view.render_models(self._deps.catalog.fleet))

    async def get_stats(self) -> Response:
        """Return requests, errors, tokens and latencies, in total and by model and server, and the resources used."""
        deps = self._deps
        now = deps.clock()
        body = render_stats(
            deps.meter.take_snapshot(now),
            deps.catalog.fleet,
            deps.count_running(),
            measure_usage(),
            uptime=now - deps.started_at,
            wall=deps.wall(),
        )
        return json_response(body)

    async def get_metrics(self) -> Response:
        """Return the metrics in the text format of Prometheus."""
        body = self._deps.meter.render_prometheus(list_gauges(self._deps, measure_usage()))
        return Response(body, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def get_liveness(self) -> Response:
        """Return 200 as long as the gateway runs."""
        return json_response(b'{"status":"ok"}')

    async def get_readiness(self) -> Response:
        """Return 200 once every server has been probed, and 503 before and while the gateway stops."""
        if self._deps.gateway.is_draining:
            return json_response(b'{"status":"stopping"}', 503)
        if not self._deps.gateway.has_probed_servers:
            return json_response(b'{"status":"starting"}', 503)
        return json_response(b'{"status":"ok"}')
