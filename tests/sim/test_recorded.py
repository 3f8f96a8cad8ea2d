"""The simulated vLLM and llama.cpp against what the real ones said: statuses, headers, keys, order of events, errors.

With PENSTOCK_RECORDED_VLLM or PENSTOCK_RECORDED_LLAMACPP set to the address of a real server that serves the tiny model
as `tiny`, the same tests ask that one.
"""

import os
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from penstock.sim import SimModel, SimOptions, Simulator
from tests.sim.client import Answer, ask
from tests.support.transcripts import Recorded, events, load, shape, without_repeats

SENTENCE = (
    "Hello there friend! I am small but real: each word you read came from this server — "
    "héllo 世界 🙂, one step at time. Bye"
)
# Their values differ from run to run.
CHANGING = {"date", "content-length", "process-start-time-unix"}
CASES = [(kind, recorded) for kind in ("vllm", "llamacpp") for recorded in load(kind)]


@pytest.fixture
async def server(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    kind: str = request.param
    if real := os.environ.get(f"PENSTOCK_RECORDED_{kind.upper()}"):
        yield real
        return
    tiny = SimModel.named("tiny", context_length=2048)
    async with Simulator(replace(SimOptions.instant(kind, tiny, text=SENTENCE))) as simulator:
        yield simulator.url


async def repeated(server: str, recorded: Recorded) -> Answer:
    kind = {"Content-Type": "application/json"} if recorded.sent else {}
    return await ask(server, recorded.method, recorded.path, recorded.sent, headers=kind)


@pytest.mark.parametrize(("server", "recorded"), CASES, ids=[f"{k} {r.name}" for k, r in CASES], indirect=["server"])
async def test_it_answers_in_the_form_that_was_recorded(server: str, recorded: Recorded) -> None:
    answer = await repeated(server, recorded)
    assert answer.status == recorded.status
    if recorded.streamed:
        assert without_repeats([shape(e) for e in events(answer.body)]) == without_repeats(
            [shape(e) for e in recorded.events]
        )
        assert answer.body.count(b"\n\n") == len(events(answer.body))
    elif recorded.status >= 400:
        assert answer.body == recorded.body
    elif recorded.header(
        "content-type",
    ) and "json" in str(recorded.header("content-type")):
        assert shape(answer.json) == shape(recorded.json)
        assert list(answer.json) == list(recorded.json)
    elif not recorded.has_whole_body():
        assert answer.body.startswith(b"# HELP ")


@pytest.mark.parametrize(("server", "recorded"), CASES, ids=[f"{k} {r.name}" for k, r in CASES], indirect=["server"])
async def test_it_sends_the_headers_that_were_recorded(server: str, recorded: Recorded) -> None:
    answer = await repeated(server, recorded)
    seen = {(name, value) for name, value in answer.headers if name.lower() not in CHANGING}
    wanted = {(name, value) for name, value in recorded.headers if name.lower() not in CHANGING}
    assert {(name.lower(), value) for name, value in seen} == {(name.lower(), value) for name, value in wanted}


@pytest.mark.parametrize("server", ["vllm", "llamacpp"], indirect=True)
async def test_a_stream_carries_as_many_tokens_as_were_asked_for(server: str) -> None:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5, "stream": True}
    told = events((await ask(server, "POST", "/v1/chat/completions", body)).body)
    texts = [event["choices"][0]["delta"].get("content") for event in told[:-1]]
    assert len([text for text in texts if text]) == 5
    assert told[-1] == "[DONE]"


def test_transcripts_are_read_to_the_last_byte() -> None:
    for kind in ("vllm", "llamacpp", "mlx", "transformers", "llama-cpp-python"):
        recorded = load(kind)
        assert len(recorded) == 14
        partial = [entry.path for entry in recorded if not entry.has_whole_body()]
        assert set(partial) <= {"/metrics"}
