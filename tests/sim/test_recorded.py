"""The simulated vLLM and llama.cpp against what the real ones said: statuses, headers, keys, order of events, errors.

With PENSTOCK_RECORDED_VLLM or PENSTOCK_RECORDED_LLAMACPP set to the address of a real server that serves the tiny model
as `tiny` with a context of 256 tokens, the same tests ask that one.
"""

import os
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from penstock.sim import SimModel, SimOptions, Simulator
from tests.sim.client import Answer, ask
from tests.support.transcripts import RecordedExchange, describe_shape, load_transcript, parse_events, remove_repeats

SENTENCE = (
    "Hello there friend! I am small but real: each word you read came from this server — "
    "héllo 世界 🙂, one step at time. Bye"
)
# Their values differ from run to run.
CHANGING = {"date", "content-length", "process-start-time-unix"}
# Not imitated: the order in which several answers are mixed into one stream, the chunk with timings that llama.cpp
# sends before a stop word takes effect, all of its sampling settings; and a schema's answer is short here, not cut off.
NUMBERS = re.compile(rb"\d{3,}")  # counts of tokens are near, not equal
LEFT_OUT = re.compile(r'"n":2,"stream"|"prompt":\["Hello","small"\].*stream|json_schema')
LEFT_OUT_OF_LLAMACPP = re.compile(r'"stop":\["real"\].*stream')


def questions(kind: str) -> list[tuple[str, RecordedExchange]]:
    """(kind and context length of the server that was asked, exchange)."""
    more = [
        recorded for recorded in load_transcript(f"{kind}-wire") if not LEFT_OUT.search(recorded.request_body.decode())
    ]
    if kind == "llamacpp":
        more = [
            one for one in more if one.path != "/props" and not LEFT_OUT_OF_LLAMACPP.search(one.request_body.decode())
        ]
    return [(f"{kind}-2048", recorded) for recorded in load_transcript(kind)] + [
        (f"{kind}-256", recorded) for recorded in more
    ]


CASES = [case for kind in ("vllm", "llamacpp") for case in questions(kind)]
IDS = [f"{server} {recorded.name[:100]}" for server, recorded in CASES]
asked = pytest.mark.parametrize(("server", "recorded"), CASES, ids=IDS, indirect=["server"])


@pytest.fixture
async def server(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    kind, _, size = request.param.partition("-")
    if real := os.environ.get(f"PENSTOCK_RECORDED_{kind.upper()}"):
        yield real
        return
    tiny = SimModel.from_name("tiny", context_length=int(size or 2048))
    async with Simulator(SimOptions.instant(kind, tiny, text=SENTENCE)) as simulator:
        yield simulator.url


async def repeated(server: str, recorded: RecordedExchange) -> Answer:
    headers = {"Content-Type": "application/json"} if recorded.request_body else {}
    return await ask(server, recorded.method, recorded.path, recorded.request_body, headers=headers)


def forms(values: list[Any]) -> list[Any]:
    return remove_repeats([describe_shape(without_words(value)) for value in values])


def without_words(value: Any) -> Any:
    """Without what depends on a token's own text: a completion's alternatives, and bytes (a special token has none)."""
    if isinstance(value, list):
        return [without_words(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    if "bytes" in value:
        value = {**value, "bytes": len(value["bytes"])}
    if "text_offset" in value:
        return {**value, "top_logprobs": [len(entry) for entry in value["top_logprobs"]]}
    return {key: without_words(inner) for key, inner in value.items()}


@asked
async def test_it_answers_in_the_form_that_was_recorded(server: str, recorded: RecordedExchange) -> None:
    answer = await repeated(server, recorded)
    assert answer.status == recorded.status
    if recorded.is_stream:
        assert forms(parse_events(answer.body)) == forms(recorded.events)
        assert answer.body.count(b"\n\n") == len(parse_events(answer.body))
    elif recorded.status >= 400:
        assert NUMBERS.sub(b"0", answer.body) == NUMBERS.sub(b"0", recorded.body)
    elif recorded.header(
        "content-type",
    ) and "json" in str(recorded.header("content-type")):
        assert forms([answer.json]) == forms([recorded.json])
        assert list(answer.json) == list(recorded.json)
    elif not recorded.has_complete_body():
        assert answer.body.startswith(b"# HELP ")


@asked
async def test_it_sends_the_headers_that_were_recorded(server: str, recorded: RecordedExchange) -> None:
    answer = await repeated(server, recorded)
    seen = {(name, value) for name, value in answer.headers if name.lower() not in CHANGING}
    wanted = {(name, value) for name, value in recorded.headers if name.lower() not in CHANGING}
    assert {(name.lower(), value) for name, value in seen} == {(name.lower(), value) for name, value in wanted}


async def test_vectors_come_in_the_form_that_was_recorded() -> None:
    async with Simulator(
        SimOptions.instant("llamacpp", SimModel.from_name("tiny", capabilities=("embedding",)))
    ) as server:
        for recorded in load_transcript("llamacpp-embeddings"):
            assert forms([(await repeated(server.url, recorded)).json]) == forms([recorded.json])


@pytest.mark.parametrize("server", ["vllm", "llamacpp"], indirect=True)
async def test_a_stream_carries_as_many_tokens_as_were_asked_for(server: str) -> None:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5, "stream": True}
    told = parse_events((await ask(server, "POST", "/v1/chat/completions", body)).body)
    texts = [event["choices"][0]["delta"].get("content") for event in told[:-1]]
    assert len([text for text in texts if text]) == 5
    assert told[-1] == "[DONE]"


def test_transcripts_are_read_to_the_last_byte() -> None:
    for kind in ("vllm", "llamacpp", "mlx", "transformers", "llama-cpp-python"):
        recorded = load_transcript(kind)
        assert len(recorded) == 14
        partial = [entry.path for entry in recorded if not entry.has_complete_body()]
        assert set(partial) <= {"/metrics"}
