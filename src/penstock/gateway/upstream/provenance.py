"""Origin of a response: the header lines and metadata that say who responded and why."""

from collections.abc import Iterable
from dataclasses import dataclass

from penstock.domain.fleet import Deployment
from penstock.domain.provenance import Provenance
from penstock.domain.routing_decision import Candidate, Decision
from penstock.gateway.request_context import RequestContext
from penstock.gateway.upstream.targets import Target

MAX_CACHED_HEADERS = 256
MAX_IGNORED_NAMES, MAX_IGNORED_NAME = 40, 80
"""Names in `x-penstock-ignored`, and characters of each: clients may send any number of fields."""
FAILOVER_REASON = "another server failed"


@dataclass(slots=True)
class Origin:
    """Origin of one response, as header lines and as metadata for its body. Not frozen, as it is made for each call."""

    headers: bytes
    provenance: Provenance


def provenance_headers(target: Target, decision: Decision, attempt: int) -> bytes:
    """Return the `x-penstock-*` header lines, each with its CRLF, for a response of a target at this attempt (from 1).

    They are rendered once for each target and reason.
    """
    is_fallback = decision.fallback or attempt > 1
    reason = decision.reason if attempt == 1 else FAILOVER_REASON
    key = (reason, is_fallback, decision.level)
    cached = target.provenance_headers
    headers = cached.get(key)
    if headers is None:
        if len(cached) >= MAX_CACHED_HEADERS:
            cached.clear()
        headers = cached[key] = _render_headers(target.deployment, reason, is_fallback, decision.level)
    return headers


def _render_headers(deployment: Deployment, reason: str, is_fallback: bool, complexity: str) -> bytes:
    lines = {
        "server": deployment.server.name,
        "model": deployment.model.name,
        "reason": reason,
        "fallback": str(is_fallback).lower(),
    }
    if complexity:
        lines["complexity"] = complexity
    if deployment.server.is_simulated:
        lines["simulated"] = "true"
    return b"".join(b"x-penstock-%b: %b\r\n" % (name.encode(), _escape(value)) for name, value in lines.items())


def render_ignored_header(names: Iterable[str]) -> bytes:
    """Return the header line that names the fields of a request that were left out, b"" if there are none."""
    listed = list(dict.fromkeys(names))
    if not listed:
        return b""
    escaped = [_escape(name[:MAX_IGNORED_NAME]) for name in listed[:MAX_IGNORED_NAMES]]
    return b"x-penstock-ignored: %b\r\n" % b", ".join(escaped)


def create_provenance(ctx: RequestContext, candidate: Candidate, created: float, is_distributed: bool) -> Provenance:
    """Create the metadata of a response by a candidate; `created` is the time of day in seconds."""
    decision, deployment, server = ctx.decision, candidate.deployment, candidate.deployment.server
    return Provenance(
        request_id=ctx.client.request_id,
        created=created,
        requested="" if ctx.call.is_automatic else ctx.call.model,
        server=server.name,
        server_url=deployment.url,
        provider=server.kind,
        model=deployment.model.name,
        is_fallback=decision.fallback or ctx.attempts > 1,
        reason=decision.reason if ctx.attempts == 1 else FAILOVER_REASON,
        warning=candidate.warning or decision.warning,
        is_distributed=is_distributed,
        is_simulated=server.is_simulated,
        complexity=decision.level,
        task_type=decision.task_type,
        used_fast_model=candidate.size_class == "fast",
        queue_seconds=ctx.queue_seconds,
    )


def _escape(text: str) -> bytes:
    """Return a header value: UTF-8, percent-encoded where it is not printable ASCII."""
    return b"".join(bytes((byte,)) if 32 <= byte < 127 else b"%%%02X" % byte for byte in text.encode())
