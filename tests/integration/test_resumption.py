"""A stream whose server dies continues on another one: nothing is doubled or lost, and the client gets one response."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import pytest

from penstock.sim import Faults, SimOptions, Simulator
from tests.support.breakers import reset_breakers
from tests.support.chat_endpoints import STREAMING_ENDPOINTS
from tests.support.gateway import RunningGateway, run_gateway, server_settings, wait_until
from tests.support.raw_client import Answer, chat, post
from tests.support.raw_engine import (
    RawEngine,
    Turn,
    chunk,
    chunked_head,
    event,
    ollama_lines,
    response,
    send_pieces,
    send_pieces_then,
)

TEXT = (
    "Ships pass the lock one after the other,  and nobody gets their feet wet.\n\nТак и живём: вода прибывает, вода "
    "убывает. 🚢\n  - first, the gate;\n  - then, the sluice.\nThat is all there is to it, and it has worked for ages. "
)
FAULTY = {"a": "vllm", "b": "llamacpp", "c": "ollama"}
WANTED = 1000
WORKERS = 16
FAULTS = Faults(
    refuse=0.04, hang_before=0.02, hang_middle=0.06, cut=0.2, reset=0.2, garbage=0.03, slow=0.02, status_429=0.03,
    status_503=0.03, crash_before=0.04, crash_middle=0.15, lie_short=0.05, lie_long=0.05, scope="generation",
    drip_seconds=0.002,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Way:
    """A request for a stream; `read` checks the shape and returns the text and how often it was resumed."""

    name: str
    request: bytes
    read: Callable[[Answer], tuple[str, int]]


def _events(answer: Answer) -> list[Any]:
    return [msgspec.json.decode(data) for data in answer.data if data != b"[DONE]"]


def _count_resumptions(answer: Answer) -> int:
    return max([int(line[19:]) for line in answer.body.splitlines() if line.startswith(b": penstock resumed=")] or [0])


def _openai(answer: Answer) -> tuple[str, int]:
    events = _events(answer)
    assert len({(one["id"], one["created"], one["model"]) for one in events}) == 1
    deltas = [choice["delta"] for one in events for choice in one["choices"]]
    assert sum("role" in delta for delta in deltas) == 1
    finishes = [choice["finish_reason"] for one in events for choice in one["choices"] if choice["finish_reason"]]
    assert finishes == ["stop"]
    assert answer.data.count(b"[DONE]") == 1
    assert answer.data[-1] == b"[DONE]"
    [usage] = [one["usage"] for one in events if one.get("usage")]
    assert usage["completion_tokens"] >= len([delta for delta in deltas if delta.get("content")])
    return "".join(delta.get("content") or "" for delta in deltas), _count_resumptions(answer)


def _completions(answer: Answer) -> tuple[str, int]:
    events = _events(answer)
    assert len({one["id"] for one in events}) == 1
    choices = [choice for one in events for choice in one["choices"]]
    assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["stop"]
    assert answer.data.count(b"[DONE]") == 1
    return "".join(choice["text"] for choice in choices), _count_resumptions(answer)


def _anthropic(answer: Answer) -> tuple[str, int]:
    events = _events(answer)
    kinds = Counter(one["type"] for one in events)
    assert kinds["message_start"] == kinds["message_stop"] == kinds["content_block_start"] == 1
    assert "error" not in kinds
    texts = [one["delta"].get("text", "") for one in events if one["type"] == "content_block_delta"]
    return "".join(texts), _count_resumptions(answer)


def _responses(answer: Answer) -> tuple[str, int]:
    events = _events(answer)
    assert events[-1]["type"] == "response.completed"
    assert [one["sequence_number"] for one in events] == list(range(len(events)))
    text = "".join(one["delta"] for one in events if one["type"] == "response.output_text.delta")
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == text
    return text, _count_resumptions(answer)


def _ollama(answer: Answer) -> tuple[str, int]:
    *lines, last = answer.lines
    assert last["done"] is True
    assert not any(line["done"] for line in lines)
    texts = [line["message"]["content"] if "message" in line else line["response"] for line in answer.lines]
    return "".join(texts), last.get("penstock", {"resumed": 0})["resumed"]


MORE = {"resume": True, "stream": True}
WAYS = (
    Way("chat", post("/v1/chat/completions", chat(**MORE, stream_options={"include_usage": True})), _openai),
    Way("completions", post("/v1/completions", {"model": "m", "prompt": "hi", "max_tokens": 500} | MORE), _completions),
    Way("messages", post("/v1/messages", chat(**MORE, max_tokens=500)), _anthropic),
    Way("responses", post("/v1/responses", {"model": "m", "input": "hi"} | MORE), _responses),
    Way("ollama chat", post("/api/chat", chat(**MORE)), _ollama),
    Way("ollama generate", post("/api/generate", {"model": "m", "prompt": "hi"} | MORE), _ollama),
    Way(
        "ollama raw",
        post("/api/generate", {"model": "m", "prompt": "hi", "raw": True, "options": {"num_predict": 500}} | MORE),
        _ollama,
    ),
)


async def call(gateway: RunningGateway, dice: random.Random, tally: Counter[str]) -> None:
    way = dice.choice(WAYS)
    for live in gateway.gateway.catalog.loads.values():
        live.last_failed_at = 0.0
    reset_breakers(gateway.gateway.failover.breakers)
    answer = await gateway.send_request(way.request, 10)
    assert answer.status == 200, f"{way.name}: {answer}"
    assert answer.complete, f"{way.name}: {answer}"
    try:
        text, resumed = way.read(answer)
    except (AssertionError, LookupError, ValueError) as wrong:
        raise AssertionError(f"{way.name}: {wrong!r}: {answer}") from wrong
    assert text == TEXT, f"{way.name}: {answer}"
    tally[f"{way.name}, resumed {resumed} times"] += 1
    tally["resumed"] += bool(resumed)


async def test_every_text_is_complete_and_exact_after_a_thousand_faults_in_mid_stream(capsys):
    dice = random.Random(2027)
    tally: Counter[str] = Counter()
    sims = {name: Simulator(SimOptions.instant(kind, "m", text=TEXT, slots=64)) for name, kind in FAULTY.items()}
    async with sims["a"], sims["b"], sims["c"], Simulator(SimOptions.instant("vllm", "m", text=TEXT, slots=64)) as good:
        servers = [
            server_settings(n, sim.url, FAULTY[n], first_byte=0.3, idle=0.3, connect=1) for n, sim in sims.items()
        ]
        servers.append(server_settings("good", good.url, priority="FALLBACK"))

        def dealt() -> int:
            return sum(sum(sim.counters.faults.values()) for sim in sims.values())

        async with run_gateway(*servers) as gateway:
            for sim in sims.values():
                sim.faults = FAULTS

            async def work() -> None:
                while dealt() < WANTED:
                    await call(gateway, dice, tally)

            async with asyncio.TaskGroup() as workers:
                for _ in range(WORKERS):
                    workers.create_task(work())
            await gateway.wait_until_idle()
            await wait_until(lambda: not gateway.connections)
            await wait_until(lambda: not any(sim.running or sim.waiting for sim in (*sims.values(), good)))
            breakers = gateway.gateway.failover.breakers.list_breakers()
            assert breakers
            assert not any(breaker.has_probe_in_flight for breaker in breakers)
        faults = sum((Counter(sim.counters.faults) for sim in sims.values()), Counter())
    with capsys.disabled():
        print(f"\n{dealt()} faults dealt: {dict(faults.most_common())}")
        print("how calls went:", dict(sorted(tally.items())))
    assert tally["resumed"] > 100


HEAD = chunked_head()
BROKEN = HEAD + b"".join(map(chunk, (event("Once"), event(" upon"), event(" a "))))
ASKED = post("/v1/chat/completions", chat(**MORE, max_tokens=9))


def rest(*words: str, **usage: int) -> bytes:
    """Return the rest of a stream, with its usage."""
    counted = {"id": "2", "object": "chat.completion.chunk", "created": 2, "model": "m", "choices": [], "usage": usage}
    last = b"data: " + msgspec.json.encode(counted) + b"\n\n" if usage else b""
    events = [*map(event, words), event(finish="stop"), last, b"data: [DONE]\n\n"]
    return HEAD + b"".join(chunk(one) for one in events if one) + b"0\r\n\r\n"


async def test_the_second_server_generates_the_rest_and_the_usage_counts_both():
    request = post("/v1/chat/completions", chat(**MORE, max_tokens=9, stream_options={"include_usage": True}))
    async with (
        RawEngine(send_pieces_then("reset", BROKEN)) as bad,
        RawEngine(send_pieces(rest(" time", ".", prompt_tokens=13, completion_tokens=2))) as good,
        run_gateway(server_settings("a", bad.url), server_settings("b", good.url, priority="SECONDARY")) as gateway,
    ):
        answer = await gateway.send_request(request)
        text, resumed = _openai(answer)
        assert (text, resumed) == ("Once upon a time.", 1)
        [asked] = [one.json for one in good.requests]
        assert asked["messages"] == [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Once upon a"}]
        assert (asked["continue_final_message"], asked["add_generation_prompt"]) == (True, False)
        assert asked["max_tokens"] == 6
        assert "resume" not in asked
        [usage] = [one["usage"] for one in _events(answer) if one.get("usage")]
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == (10, 5)


async def test_a_stream_that_reached_its_token_limit_ends_without_another_server():
    async with (
        RawEngine(send_pieces_then("reset", BROKEN)) as bad,
        RawEngine(send_pieces(rest("never"))) as good,
        run_gateway(server_settings("a", bad.url), server_settings("b", good.url, priority="SECONDARY")) as gateway,
    ):
        answer = await gateway.send_request(post("/v1/chat/completions", chat(**MORE, max_tokens=3)))
        assert answer.text == "Once upon a "
        assert b'"finish_reason":"length"' in answer.body
        assert not good.requests


async def test_a_complete_text_is_closed_without_another_server():
    complete = HEAD + chunk(event("All of it.")) + chunk(event(finish="stop"))
    async with (
        RawEngine(send_pieces_then("reset", complete)) as bad,
        RawEngine(send_pieces(rest("never"))) as good,
        run_gateway(server_settings("a", bad.url), server_settings("b", good.url, priority="SECONDARY")) as gateway,
    ):
        answer = await gateway.send_request(ASKED)
        assert answer.text == "All of it."
        assert answer.data[-1] == b"[DONE]"
        assert not good.requests


@pytest.mark.parametrize(
    "body",
    [
        chat(stream=True),
        chat(stream=True, resume=False),
        chat(**MORE, tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}]),
        chat(**MORE, response_format={"type": "json_object"}),
        chat(**MORE, logprobs=True),
        chat(**MORE, n=2),
    ],
    ids=["not asked for", "refused", "tools", "JSON", "logprobs", "two answers"],
)
async def test_a_stream_that_must_not_be_resumed_ends_with_an_error(body: dict[str, Any]):
    async with (
        RawEngine(send_pieces_then("reset", BROKEN)) as bad,
        RawEngine(send_pieces(rest("never"))) as good,
        run_gateway(server_settings("a", bad.url), server_settings("b", good.url, priority="SECONDARY")) as gateway,
    ):
        answer = await gateway.send_request(post("/v1/chat/completions", body))
        assert b"error" in answer.data[-1]
        assert not good.requests
        assert "resume" not in bad.requests[0].json


@pytest.mark.parametrize("name", STREAMING_ENDPOINTS)
async def test_a_stream_that_no_server_can_resume_ends_with_an_error_in_its_dialect(name: str):
    surface = STREAMING_ENDPOINTS[name]
    partial = HEAD + chunk(event("one"))
    if surface.kind == "ollama":
        partial = chunked_head("application/x-ndjson") + chunk(ollama_lines("one", "two")[0])
    async with (
        RawEngine(send_pieces_then("reset", partial)) as bad,
        RawEngine(send_pieces(response(b"", status="500 Internal Server Error"))) as worse,
        run_gateway(
            server_settings("a", bad.url, surface.kind),
            server_settings("b", worse.url, surface.kind, priority="SECONDARY"),
        ) as gateway,
    ):
        answer = await gateway.send_request(post(surface.path, surface.body | {"resume": True}))
        assert answer.complete
        assert b"one" in answer.body
        assert surface.find_error(answer)
        assert len(worse.requests) == 1


async def test_a_client_that_disconnects_from_a_resumed_stream_leaves_nothing_behind():
    async with (
        RawEngine(send_pieces_then("reset", BROKEN)) as bad,
        RawEngine(Turn.hang) as slow,
        run_gateway(server_settings("a", bad.url), server_settings("b", slow.url, priority="SECONDARY")) as gateway,
    ):
        client = await gateway.connect_client()
        await client.send(ASKED)
        await wait_until(lambda: slow.requests)
        client.close()
        await gateway.wait_until_idle()


async def test_a_text_that_an_engine_starts_again_is_not_sent_twice():
    partial = ["It is a truth universally acknowledged, that a single man in possession", " of a good fortune,"]
    first = HEAD + b"".join(chunk(event(word)) for word in partial)
    async with (
        RawEngine(send_pieces_then("reset", first)) as bad,
        RawEngine(send_pieces(rest(partial[0][:30], partial[0][30:], partial[1], " must be"))) as good,
        run_gateway(server_settings("a", bad.url), server_settings("b", good.url, priority="SECONDARY")) as gateway,
    ):
        answer = await gateway.send_request(ASKED)
        assert answer.text == "".join(partial) + " must be"


async def test_a_continuation_that_starts_with_thinking_is_not_sent():
    thinking = HEAD + chunk(b'data: {"choices":[{"index":0,"delta":{"reasoning_content":"Hm."}}]}\n\n')
    async with (
        RawEngine(send_pieces_then("reset", BROKEN)) as bad,
        RawEngine(send_pieces(thinking)) as worse,
        run_gateway(server_settings("a", bad.url), server_settings("b", worse.url, priority="SECONDARY")) as gateway,
    ):
        answer = await gateway.send_request(ASKED)
        assert b"Hm." not in answer.body
        assert b"error" in answer.data[-1]


@pytest.mark.parametrize(("fields", "is_resumed"), [({}, True), ({"resume": False}, False)], ids=["unset", "refused"])
async def test_a_stream_is_resumed_if_settings_allow_it_unless_the_caller_refuses(
    fields: dict[str, bool], is_resumed: bool
):
    async with (
        RawEngine(send_pieces_then("reset", BROKEN)) as bad,
        RawEngine(send_pieces(rest(" time."))) as good,
        run_gateway(server_settings("a", bad.url), server_settings("b", good.url, priority="SECONDARY")) as gateway,
    ):
        gateway.gateway.failover.defaults = replace(gateway.gateway.failover.defaults, resume=True)
        answer = await gateway.send_request(post("/v1/chat/completions", chat(stream=True, **fields)))
        assert (answer.text == "Once upon a time.") is is_resumed
        assert bool(good.requests) is is_resumed
