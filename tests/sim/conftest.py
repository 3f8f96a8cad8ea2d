"""Simulated servers that answer at once."""

from collections.abc import AsyncIterator

import pytest

from penstock.sim import SimModel, SimOptions, Simulator

PLAIN, SKILLED, THINKER, EMBEDDER = "gemma3:1b", "llama3.2", "qwen3:14b", "nomic-embed-text"


@pytest.fixture
async def ollama() -> AsyncIterator[Simulator]:
    """A plain model, one with tools, one that thinks, one that embeds."""
    models = (
        SimModel.from_name(PLAIN),
        SimModel.from_name(SKILLED),
        SimModel.from_name(THINKER),
        SimModel.from_name(EMBEDDER),
    )
    async with Simulator(SimOptions.instant("ollama", *models)) as simulator:
        yield simulator


@pytest.fixture
async def vllm() -> AsyncIterator[Simulator]:
    models = (SimModel.from_name("m", capabilities=("completion", "tools"), context_length=2048),)
    async with Simulator(SimOptions.instant("vllm", *models)) as simulator:
        yield simulator


@pytest.fixture
async def llamacpp() -> AsyncIterator[Simulator]:
    models = (SimModel.from_name("m", capabilities=("completion", "tools"), context_length=2048),)
    async with Simulator(SimOptions.instant("llamacpp", *models)) as simulator:
        yield simulator
