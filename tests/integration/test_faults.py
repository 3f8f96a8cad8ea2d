"""A thousand faults of simulated servers beside a good one: none reaches a client before its first byte."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import pytest

from penstock.sim import Faults, SimOptions, Simulator
from tests.support.breakers import reset_breakers
from tests.support.chat_endpoints import CHAT_ENDPOINTS, STREAMING_ENDPOINTS
from tests.support.gateway import RunningGateway, run_gateway, server_settings, wait_until
from tests.support.raw_client import Answer, RawClient, chat, post

TEXT = "Ships pass the lock one after the other, and nobody gets their feet wet. 🚢 Так и живём."
FAULTY = {"a": "vllm", "b": "llamacpp", "c": "ollama"}
WANTED = 1000
WORKERS = 24
PROBABILITIES = Faults(
    refuse=0.1,
    hang_before=0.06,
    hang_middle=0.05,
    cut=0.1,
    reset=0.1,
    garbage=0.1,
    slow=0.08,
    status_429=0.1,
    status_500=0.05,
    status_503=0.1,
    status_504=0.05,
    crash_before=0.08,
    crash_middle=0.06,
    lie_short=0.1,
    lie_long=0.05,
    scope="generation",
    drip_seconds=0.005,
)


@dataclass(frozen=True, slots=True)
class Way:
    """A request, and how to read its response; `error` finds the error that ended a stream."""

    name: str
    request: bytes
    text: Callable[[Answer], str]
    error: Callable[[Answer], str] | None = None


def _openai_error(answer: Answer) -> str:
    """Return the gateway's own error, or the one in the engine's stream."""
    events = [msgspec.json.decode(data) for data in answer.data if data != b"[DONE]"]
    return "".join(event["error"]["message"] for event in events if "error" in event)


def _anthropic_text(answer: Answer) -> str:
    if "event-stream" not in answer.headers["content-type"]:
        return str(answer.json["content"][0]["text"])
    events = map(msgspec.json.decode, answer.data)
    return "".join(event["delta"].get("text", "") for event in events if event["type"] == "content_block_delta")


def _responses_text(answer: Answer) -> str:
    events = map(msgspec.json.decode, answer.data)
    return "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")


WAYS = (
    Way("openai", CHAT_ENDPOINTS["openai"].request, lambda answer: answer.text),
    Way("openai streamed", STREAMING_ENDPOINTS["openai"].request, lambda answer: answer.text, _openai_error),
    Way("anthropic", post("/v1/messages", chat(max_tokens=500)), _anthropic_text),
    Way(
        "anthropic streamed",
        post("/v1/messages", chat(max_tokens=500, stream=True)),
        _anthropic_text,
        STREAMING_ENDPOINTS["anthropic"].find_error,
    ),
    Way(
        "responses streamed",
        STREAMING_ENDPOINTS["openai responses"].request,
        _responses_text,
        STREAMING_ENDPOINTS["openai responses"].find_error,
    ),
    Way("ollama", post("/api/chat", CHAT_ENDPOINTS["ollama"].body), lambda answer: answer.json["message"]["content"]),
    Way(
        "ollama streamed",
        STREAMING_ENDPOINTS["ollama"].request,
        lambda answer: "".join(line["message"]["content"] for line in answer.lines),
        STREAMING_ENDPOINTS["ollama"].find_error,
    ),
    Way("service", CHAT_ENDPOINTS["service"].request, lambda answer: answer.json["response"]),
)


def classify_outcome(way: Way, answer: Answer) -> str:
    """Return how a response ended: `well`, or `broken` with its dialect's error at the end. Fail on anything else."""
    assert answer.status == 200, f"{way.name}: {answer}"
    assert answer.complete, f"{way.name}: {answer}"
    try:
        error = way.error(answer) if way.error else ""
    except (AssertionError, KeyError, ValueError, IndexError):
        error = ""
    if error:
        return "broken"
    assert way.text(answer) == TEXT, f"{way.name}: {answer}"
    return "well"


def _find_outcome(way: Way, answer: Answer) -> str:
    try:
        return classify_outcome(way, answer)
    except (AssertionError, LookupError, ValueError) as wrong:
        return f"WRONG: {wrong!r}: {answer}"


async def call(gateway: RunningGateway, kept: list[RawClient], dice: random.Random, tally: Counter[str]) -> None:
    """Make one call, on a new connection or on one that an earlier call left open."""
    way = dice.choice(WAYS)
    client = kept.pop() if kept else await RawClient.connect(gateway.port)
    for name in FAULTY:  # each has had its rest: none is passed over for what it did before
        gateway.gateway.catalog.loads[name].last_failed_at = 0.0
    reset_breakers(gateway.gateway.failover.breakers)
    keep = False
    try:
        await client.send(way.request)
        answer = await client.read_answer(10)
        ended = _find_outcome(way, answer)
        keep = ended == "well" and dice.random() < 0.7
    finally:
        if keep:
            kept.append(client)
        else:
            client.close()
    tally[f"{way.name}: {ended}"] += 1
    tally["from another server"] += answer.headers["x-penstock-fallback"] == "true"


@pytest.mark.parametrize("probe", [False, True], ids=["unwatched", "watched"])
async def test_none_of_a_thousand_faults_reaches_a_client_before_its_first_byte(probe: bool, capsys):
    dice = random.Random(2026)
    tally: Counter[str] = Counter()
    sims = {name: Simulator(SimOptions.instant(kind, "m", text=TEXT, slots=64)) for name, kind in FAULTY.items()}
    async with sims["a"], sims["b"], sims["c"], Simulator(SimOptions.instant("vllm", "m", text=TEXT, slots=64)) as good:
        servers = [
            server_settings(n, sim.url, FAULTY[n], first_byte=0.3, idle=0.3, connect=1) for n, sim in sims.items()
        ]
        servers.append(server_settings("good", good.url, priority="FALLBACK", first_byte=5.0, idle=5.0))

        def dealt() -> int:
            return sum(sum(sim.counters.faults.values()) for sim in sims.values())

        async with run_gateway(*servers, probe=probe) as gateway:
            for sim in sims.values():
                sim.faults = PROBABILITIES
            kept: list[RawClient] = []
            wanted = WANTED // (4 if probe else 1)

            async def work() -> None:
                while dealt() < wanted:
                    await call(gateway, kept, dice, tally)

            async with asyncio.TaskGroup() as workers:
                for _ in range(WORKERS):
                    workers.create_task(work())
            await gateway.wait_until_idle()
            for client in kept:
                client.close()
            await wait_until(lambda: not gateway.connections)
            await wait_until(lambda: not any(sim.running or sim.waiting for sim in (*sims.values(), good)))
        faults = sum((Counter(sim.counters.faults) for sim in sims.values()), Counter())
    with capsys.disabled():
        print(f"\n{dealt()} faults dealt: {dict(faults.most_common())}")
        print("how calls ended:", dict(sorted(tally.items())))
    assert not [ended for ended in tally if "WRONG" in ended]
    assert not {name for name in tally if name.endswith("broken") and "streamed" not in name}
    assert dealt() >= wanted
    assert len(faults) >= 14
    assert tally["from another server"] > wanted / 10
