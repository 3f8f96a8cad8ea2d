"""Answers that need no engine: what only Ollama can be told to do, and counts of tokens made by a rule of thumb."""

from dataclasses import replace

from penstock.dialects.base import Endpoint
from penstock.domain.content import Content, Embedding
from penstock.domain.request import Call
from penstock.domain.response import Choice, ModelResponse, Usage
from penstock.domain.response_metadata import Provenance
from penstock.gateway.client import Client
from penstock.gateway.upstream.relay.translating import BYTES_PER_TOKEN


def without_engine(call: Call, content: Content) -> ModelResponse | None:
    """The answer to a request that asks for no work: only Ollama can be told to load or unload a model."""
    if "unload" in call.flags:
        return ModelResponse((Choice(finish="unload"),))
    if "load" in call.flags:
        return ModelResponse() if isinstance(content, Embedding) else ModelResponse((Choice(finish="load"),))
    return None


def count(call: Call) -> Usage:
    return Usage(prompt_tokens=max(1, len(call.body) // BYTES_PER_TOKEN), estimated=True)


def deliver(
    client: Client, endpoint: Endpoint, call: Call, answer: ModelResponse, head: bytes, provenance: Provenance
) -> None:
    whole = replace(call, stream=False)
    renderer = endpoint.create_renderer(whole, provenance)
    client.send_response(200, renderer.content_type, head, renderer.render_response(answer, provenance))
