#!/usr/bin/env python3
"""Measure routing decisions by name and by complexity in small and large fleets, and the classification of a text.

    decisions.py [--texts FILE.jsonl]

CPU time of this process, the best of many rounds. Without --texts the prompts of training/ are classified.
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
from penstock.gateway.routing.model_profile import estimate_billions
from penstock.gateway.routing.policy import Policy
from penstock.gateway.routing.router import Router

FAMILIES = ("llama3.1", "qwen2.5", "gemma3", "qwen3", "mistral")
SIZES = (1, 3, 4, 7, 8, 12, 14, 27, 32, 70)
PROMPTS = Path(__file__).resolve().parents[1] / "training" / "prompts"


def build_catalog(servers: int, models: int) -> Catalog:
    """Build a catalog of Ollama servers that all have the same models."""
    names = [f"{family}:{size}b" for family in FAMILIES for size in SIZES][:models]
    catalog = Catalog(on_demand=frozenset({"ollama"}), estimate_billions=estimate_billions)
    statuses = []
    for number in range(servers):
        server = Server(f"s{number}", "ollama", (f"http://s{number}:11434",), Priority.PRIMARY, 2)
        available = tuple(Model(name) for name in names)
        statuses.append(ServerStatus(server, State.UP, server.url, available, checked_at=1.0))
    catalog.publish(statuses)
    return catalog


def measure_best(function: Callable[[], object], rounds: int = 20, times: int = 200) -> float:
    """Return the microseconds per call in the best round."""
    costs = []
    for _ in range(rounds):
        start = time.process_time()
        for _ in range(times):
            function()
        costs.append((time.process_time() - start) / times * 1e6)
    return min(costs)


def measure_decisions() -> None:
    """Print the cost of decisions by name and by complexity."""
    operations = {kind: engine.operations for kind, engine in engines.load().items()}
    print("| fleet | model named, µs | model chosen, µs | after the fleet changed, ms |\n| --- | ---: | ---: | ---: |")
    for servers, models in ((2, 4), (10, 10), (1000, 50)):
        catalog, router = build_catalog(servers, models), Router(Policy(), load_costs(), operations)
        named = Call("openai.chat", Operation.CHAT, "llama3.1:1b", False, b"x" * 200)
        profile = RequestProfile(Level.MODERATE, TaskType.EXPLANATION, context_tokens=50)
        chosen = Call("openai.chat", Operation.CHAT, "auto", False, b"x" * 200, profile=profile)
        start = time.process_time()
        for call in (named, chosen):
            router.decide(catalog.fleet, call, catalog.loads, 5.0)
        first_ms = (time.process_time() - start) * 1e3
        costs = [
            measure_best(partial(router.decide, catalog.fleet, call, catalog.loads, 5.0)) for call in (named, chosen)
        ]
        print(f"| {servers} servers × {models} models | {costs[0]:.1f} | {costs[1]:.1f} | {first_ms:.1f} |")


def measure_classifier(texts: list[str]) -> None:
    """Print the cost of classifying each text, the best of five times without the cache."""
    classifier = Classifier(cache_size=0)
    classifier.classify("")
    costs = sorted(measure_best(partial(classifier.classify, text), 5, 1) for text in texts)
    p50, p99 = (costs[int(len(costs) * part)] for part in (0.5, 0.99))
    mean = statistics.fmean(costs)
    print(
        f"\nClassification of {len(texts)} texts, µs:"
        f" mean {mean:.0f}, p50 {p50:.0f}, p99 {p99:.0f}, max {costs[-1]:.0f}"
    )


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--texts", type=Path, nargs="*", default=sorted(PROMPTS.glob("*.jsonl")))
    texts = [json.loads(line)["text"] for file in parser.parse_args().texts for line in file.open(encoding="utf-8")]
    measure_decisions()
    measure_classifier(texts)


if __name__ == "__main__":
    main()
