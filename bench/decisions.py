#!/usr/bin/env python3
"""What a decision costs: routing by name and by complexity in small and large fleets, and the judgement of a text.

    decisions.py [--texts FILE.jsonl]

CPU time in this process, the best of many rounds. Without --texts the classifier judges the prompts of training/.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from penstock import engines
from penstock.domain.complexity import Level, RequestProfile, TaskType
from penstock.domain.fleet import Model, Priority, Server, ServerStatus, State
from penstock.domain.request import Call, Operation
from penstock.gateway.fleet.catalog import Catalog
from penstock.gateway.routing.complexity.classifier import Classifier
from penstock.gateway.routing.costs import load_costs
from penstock.gateway.routing.router import Policy, Router

FAMILIES = ("llama3.1", "qwen2.5", "gemma3", "qwen3", "mistral")
SIZES = (1, 3, 4, 7, 8, 12, 14, 27, 32, 70)
PROMPTS = Path(__file__).resolve().parents[1] / "training" / "prompts"


def fleet(servers: int, models: int) -> Catalog:
    """So many servers of kind Ollama, each with the same models."""
    names = [f"{family}:{size}b" for family in FAMILIES for size in SIZES][:models]
    catalog = Catalog(on_demand=frozenset({"ollama"}))
    statuses = []
    for number in range(servers):
        server = Server(f"s{number}", "ollama", (f"http://s{number}:11434",), Priority.PRIMARY, 2)
        found = tuple(Model(name) for name in names)
        statuses.append(ServerStatus(server, State.UP, server.url, found, checked_at=1.0))
    catalog.publish(statuses)
    return catalog


def best(do: Callable[[], object], rounds: int = 20, times: int = 200) -> float:
    """Microseconds for one, in the best round."""
    found = []
    for _ in range(rounds):
        begin = time.process_time()
        for _ in range(times):
            do()
        found.append((time.process_time() - begin) / times * 1e6)
    return min(found)


def decisions() -> None:
    """Of a router, by name and by complexity."""
    operations = {kind: engine.operations for kind, engine in engines.load().items()}
    print("| fleet | model named, µs | model chosen, µs | after the fleet changed, ms |\n| --- | ---: | ---: | ---: |")
    for servers, models in ((2, 4), (10, 10), (1000, 50)):
        catalog, router = fleet(servers, models), Router(Policy(), load_costs(), operations)
        named = Call("openai.chat", Operation.CHAT, "llama3.1:1b", False, b"x" * 200)
        ask = RequestProfile(Level.MODERATE, TaskType.EXPLANATION, context_tokens=50)
        chosen = Call("openai.chat", Operation.CHAT, "auto", False, b"x" * 200, profile=ask)
        begin = time.process_time()
        for call in (named, chosen):
            router.decide(catalog.fleet, call, catalog.loads, 5.0)
        anew = (time.process_time() - begin) * 1e3
        costs = [best(partial(router.decide, catalog.fleet, call, catalog.loads, 5.0)) for call in (named, chosen)]
        print(f"| {servers} servers × {models} models | {costs[0]:.1f} | {costs[1]:.1f} | {anew:.1f} |")


def judgements(texts: list[str]) -> None:
    """Of the classifier: each text by the best of five looks, none of them remembered."""
    classifier = Classifier(cache_size=0)
    classifier.classify("")
    costs = sorted(best(partial(classifier.classify, text), 5, 1) for text in texts)
    p50, p99 = (costs[int(len(costs) * part)] for part in (0.5, 0.99))
    mean = statistics.fmean(costs)
    print(
        f"\nA judgement of {len(texts)} texts, µs: mean {mean:.0f}, p50 {p50:.0f}, p99 {p99:.0f}, most {costs[-1]:.0f}"
    )


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--texts", type=Path, nargs="*", default=sorted(PROMPTS.glob("*.jsonl")))
    texts = [json.loads(line)["text"] for file in parser.parse_args().texts for line in file.open(encoding="utf-8")]
    decisions()
    judgements(texts)


if __name__ == "__main__":
    main()
