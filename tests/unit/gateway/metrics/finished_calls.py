"""Finished calls as the meter receives them, and a Hypothesis strategy for lists of them."""

from collections.abc import Iterable
from dataclasses import dataclass

from hypothesis import strategies as st

from penstock.gateway.metrics.meter import Meter
from penstock.gateway.metrics.series import CLIENT_GONE, CallOutcome

SECONDS = st.floats(0.0001, 600.0)


@dataclass(frozen=True)
class FinishedCall:
    """One call with the labels of its series; durations are seconds."""

    wire: str = "w"
    model: str = ""
    server: str = ""
    code: str = "ok"
    is_streamed: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0
    first_byte_seconds: float = 0.0
    total_seconds: float = 0.0
    is_fallback: bool = False
    client_gone: bool = False
    started_at: float = 0.0

    def record(self, meter: Meter) -> None:
        code = CLIENT_GONE if self.client_gone else self.code
        first_byte_at = self.started_at + self.first_byte_seconds if self.first_byte_seconds else 0.0
        outcome = CallOutcome(
            code=code,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            started_at=self.started_at,
            first_byte_at=first_byte_at,
            ended_at=self.started_at + self.total_seconds,
        )
        series = meter.series_of(self.model, self.server)[self.wire]
        series.record(outcome, is_streamed=self.is_streamed, is_fallback=self.is_fallback)


CALLS = st.lists(
    st.builds(
        FinishedCall,
        wire=st.sampled_from(["openai.chat", "ollama.chat", "anthropic.messages"]),
        model=st.sampled_from(["", "m1", "m2", 'odd"\\\n name']),
        server=st.sampled_from(["", "a", "b"]),
        code=st.sampled_from(["ok", "ok", "upstream_error", "no_server"]),
        is_streamed=st.booleans(),
        prompt_tokens=st.integers(0, 10**6),
        completion_tokens=st.integers(0, 10**6),
        first_byte_seconds=st.one_of(st.just(0.0), SECONDS),
        total_seconds=SECONDS,
        is_fallback=st.booleans(),
        client_gone=st.booleans(),
        started_at=st.floats(0, 1000),
    ),
    max_size=60,
)


def meter_of(calls: Iterable[FinishedCall]) -> Meter:
    """Create a meter that has recorded these calls."""
    meter = Meter()
    for call in calls:
        call.record(meter)
    return meter
