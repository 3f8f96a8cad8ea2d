"""Answers that need no engine: what only Ollama can be told to do, and counts of tokens made by a rule of thumb."""

from dataclasses import replace

from penstock.dialects.base import Endpoint
from penstock.domain.content import Content, Embedding
from penstock.domain.request import Call, Provenance
from penstock.domain.response import Answer, Choice, Usage
from penstock.gateway.client import Client
from penstock.gateway.upstream.relay.translating import BYTES_PER_TOKEN


def without_engine(call: Call, content: Content) -> Answer | None:
    """The answer to a request that asks for no work: only Ollama can be told to load or unload a model."""
    if "unload" in call.flags:
        return Answer((Choice(finish="unload"),))
    if "load" in call.flags:
        return Answer() if isinstance(content, Embedding) else Answer((Choice(finish="load"),))
    return None


def count(call: Call) -> Usage:
    return Usage(prompt_tokens=max(1, len(call.body) // BYTES_PER_TOKEN), estimated=True)


def deliver(
    client: Client, endpoint: Endpoint, call: Call, answer: Answer, head: bytes, provenance: Provenance
) -> None:
    whole = replace(call, stream=False)
    writer = endpoint.writer(whole, provenance)
    client.send_response(200, writer.content_type, head, writer.whole(answer, provenance))
