"""Responses that need no server: loading and unloading models where only Ollama can, and estimated token counts."""

from dataclasses import replace

from penstock.domain.content import Content, Embedding
from penstock.domain.request import BYTES_PER_TOKEN, Call
from penstock.domain.response import Choice, ModelResponse, Usage
from penstock.gateway.request_context import RequestContext
from penstock.gateway.upstream.provenance import Origin


def load_or_unload_response(call: Call, content: Content) -> ModelResponse | None:
    """Return the response to a request that only loads or unloads a model; None for any other."""
    if "unload" in call.flags:
        return ModelResponse((Choice(finish="unload"),))
    if "load" in call.flags:
        return ModelResponse() if isinstance(content, Embedding) else ModelResponse((Choice(finish="load"),))
    return None


def estimated_count_response(call: Call) -> ModelResponse:
    """Return a response with an estimate of the request's tokens."""
    return ModelResponse(usage=Usage(prompt_tokens=max(1, len(call.body) // BYTES_PER_TOKEN), estimated=True))


def send_local_response(ctx: RequestContext, response: ModelResponse, origin: Origin) -> None:
    """Send a response to the client, complete even if the call asks for a stream."""
    renderer = ctx.endpoint.create_renderer(replace(ctx.call, stream=False), origin.provenance)
    body = renderer.render_response(response, origin.provenance)
    ctx.client.send_response(200, renderer.content_type, origin.headers, body)
