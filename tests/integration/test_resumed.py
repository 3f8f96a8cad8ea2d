"""A stream whose server dies goes on on another one: nothing doubled, nothing lost, and the client sees one answer."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from penstock.sim import Faults, SimOptions, Simulator
from tests.support.gateway import Running, running, server, until
from tests.support.raw_client import Answer, chat, post

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
    """One way to ask for a stream; `read` checks its shape and gives its text and how often it was resumed."""

    name: str
    request: bytes
    read: Callable[[Answer], tuple[str, int]]


def _events(answer: Answer) -> list[Any]:
    return [msgspec.json.decode(data) for data in answer.data if data != b"[DONE]"]


def _resumed(answer: Answer) -> int:
    return max([int(line[19:]) for line in answer.body.splitlines() if line.startswith(b": penstock resumed=")] or [0])


def _openai(answer: Answer) -> tuple[str, int]:
    events = _events(answer)
    assert len({(event["id"], event["created"], event["model"]) for event in events}) == 1
    deltas = [choice["delta"] for event in events for choice in event["choices"]]
    assert sum("role" in delta for delta in deltas) == 1
    finishes = [choice["finish_reason"] for event in events for choice in event["choices"] if choice["finish_reason"]]
    assert finishes == ["stop"]
    assert answer.data.count(b"[DONE]") == 1
    assert answer.data[-1] == b"[DONE]"
    [usage] = [event["usage"] for event in events if event.get("usage")]
    assert usage["completion_tokens"] >= len([delta for delta in deltas if delta.get("content")])
    return "".join(delta.get("content") or "" for delta in deltas), _resumed(answer)


def _completions(answer: Answer) -> tuple[str, int]:
    events = _events(answer)
    assert len({event["id"] for event in events}) == 1
    choices = [choice for event in events for choice in event["choices"]]
    assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["stop"]
    assert answer.data.count(b"[DONE]") == 1
    return "".join(choice["text"] for choice in choices), _resumed(answer)


def _anthropic(answer: Answer) -> tuple[str, int]:
    events = _events(answer)
    kinds = Counter(event["type"] for event in events)
    assert kinds["message_start"] == kinds["message_stop"] == kinds["content_block_start"] == 1
    assert "error" not in kinds
    said = [event["delta"].get("text", "") for event in events if event["type"] == "content_block_delta"]
    return "".join(said), _resumed(answer)


def _responses(answer: Answer) -> tuple[str, int]:
    events = _events(answer)
    assert events[-1]["type"] == "response.completed"
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    text = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == text
    return text, _resumed(answer)


def _ollama(answer: Answer) -> tuple[str, int]:
    *lines, last = answer.lines
    assert last["done"] is True
    assert not any(line["done"] for line in lines)
    said = [line["message"]["content"] if "message" in line else line["response"] for line in answer.lines]
    return "".join(said), last.get("penstock", {"resumed": 0})["resumed"]


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


async def call(gateway: Running, dice: random.Random, tally: Counter[str]) -> None:
    way = dice.choice(WAYS)
    for live in gateway.gateway.catalog.live.values():
        live.failed_at = 0.0
    gateway.gateway.failover.breakers.reset()
    answer = await gateway.ask(way.request, 10)
    assert answer.status == 200, f"{way.name}: {answer}"
    assert answer.whole, f"{way.name}: {answer}"
    try:
        text, resumed = way.read(answer)
    except (AssertionError, LookupError, ValueError) as wrong:
        raise AssertionError(f"{way.name}: {wrong!r}: {answer}") from wrong
    assert text == TEXT, f"{way.name}: {answer}"
    tally[f"{way.name}, resumed {resumed} times"] += 1
    tally["resumed"] += bool(resumed)


async def test_a_thousand_faults_in_mid_stream_and_every_text_is_complete_and_exact(capsys):
    dice = random.Random(2027)
    tally: Counter[str] = Counter()
    sims = {name: Simulator(SimOptions.instant(kind, "m", text=TEXT, slots=64)) for name, kind in FAULTY.items()}
    async with sims["a"], sims["b"], sims["c"], Simulator(SimOptions.instant("vllm", "m", text=TEXT, slots=64)) as good:
        servers = [server(n, sim.url, FAULTY[n], first_byte=0.3, idle=0.3, connect=1) for n, sim in sims.items()]
        servers.append(server("good", good.url, priority="FALLBACK"))

        def dealt() -> int:
            return sum(sum(sim.counters.faults.values()) for sim in sims.values())

        async with running(*servers) as gateway:
            for sim in sims.values():
                sim.faults = FAULTS

            async def work() -> None:
                while dealt() < WANTED:
                    await call(gateway, dice, tally)

            async with asyncio.TaskGroup() as workers:
                for _ in range(WORKERS):
                    workers.create_task(work())
            await gateway.at_rest()
            await until(lambda: not gateway.connections)
            await until(lambda: not any(sim.running or sim.waiting for sim in (*sims.values(), good)))
            assert not any(breaker._trial for breaker in gateway.gateway.failover.breakers._servers.values())
        faults = sum((Counter(sim.counters.faults) for sim in sims.values()), Counter())
    with capsys.disabled():
        print(f"\n{dealt()} faults dealt: {dict(faults.most_common())}")
        print("how calls went:", dict(sorted(tally.items())))
    assert tally["resumed"] > 100
