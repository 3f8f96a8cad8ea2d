"""What a simulated model says, what it is made of, and the pair that answers when nothing else does."""

import asyncio
import math
import os
import re
import signal
import sys
from dataclasses import replace
from typing import Any

import msgspec
import ollama as client
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.sim import SimModel, SimOptions, Simulator, demo_servers
from penstock.sim.generated_text import GenerationRequest, Tool, compose_answer, tokens_of, unit_vector
from penstock.sim.json_schema import example_of
from penstock.sim.kinds import KINDS
from tests.sim.client import ask

TEXTS = st.text(max_size=200)
OPTIONS = SimOptions(prefix="[simulated] ")


@given(TEXTS)
def test_tokens_join_to_the_text_again(text: str) -> None:
    assert "".join(tokens_of(text)) == text


@given(TEXTS, st.integers(0, 40), st.lists(st.text(min_size=1, max_size=3), max_size=3))
def test_no_limit_or_stop_word_takes_the_prefix_away(message: str, limit: int, stops: list[str]) -> None:
    answer = compose_answer(
        OPTIONS, GenerationRequest("m", message, max_tokens=limit, stop=tuple(stops)), msgspec.json.encode
    )
    assert answer.token_count <= limit
    assert answer.text.startswith("[simulated]") or limit == 0
    spoken = answer.text.removeprefix(OPTIONS.prefix)
    assert not any(stop in spoken for stop in stops)


@given(TEXTS, st.integers(1, 300))
def test_a_least_number_of_tokens_is_reached(message: str, least: int) -> None:
    answer = compose_answer(
        OPTIONS, GenerationRequest("m", message, min_tokens=least, max_tokens=least), msgspec.json.encode
    )
    assert (answer.token_count, answer.finish) == (least, "length")


def test_the_caller_s_words_are_quoted_in_the_caller_s_language() -> None:
    english = compose_answer(SimOptions(), GenerationRequest("m", "tell me a joke"), msgspec.json.encode).text
    russian = compose_answer(SimOptions(), GenerationRequest("m", "расскажи анекдот"), msgspec.json.encode).text
    assert "“tell me a joke”" in english
    assert "«расскажи анекдот»" in russian
    assert english.count(". ") >= 2
    assert russian.count(". ") >= 2


def test_the_text_can_be_given_with_places_to_fill() -> None:
    options = SimOptions(text="{model} heard {message}")
    assert compose_answer(options, GenerationRequest("m", "a  b"), msgspec.json.encode).text == "m heard a b"


def test_a_tool_is_called_with_arguments_of_its_schema() -> None:
    parameters = {"type": "object", "required": ["unit"], "properties": {"unit": {"enum": ["C", "F"]}, "city": {}}}
    answer = compose_answer(
        SimOptions(), GenerationRequest("m", "hi", tools=(Tool("weather", parameters),)), msgspec.json.encode
    )
    assert answer.call is not None
    assert (answer.call.name, answer.call.arguments) == ("weather", {"unit": "C"})


SCHEMAS: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.one_of(
        st.builds(
            lambda low, more: {"type": "integer", "minimum": low, "maximum": low + more},
            st.integers(-99, 99),
            st.integers(0, 9),
        ),
        st.builds(lambda low: {"type": "number", "exclusiveMinimum": low}, st.floats(-99, 99)),
        st.builds(
            lambda least, more: {"type": "string", "minLength": least, "maxLength": least + more},
            st.integers(0, 9),
            st.integers(0, 9),
        ),
        st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"const": 7}, {"enum": ["x", "y"]}]),
    ),
    lambda inner: st.one_of(
        st.builds(lambda items, least: {"type": "array", "items": items, "minItems": least}, inner, st.integers(0, 3)),
        st.builds(
            lambda properties, some: {
                "type": "object",
                "properties": properties,
                "required": sorted(properties)[:some],
            },
            st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
            st.integers(0, 3),
        ),
        st.builds(lambda one, two: {"anyOf": [one, two]}, inner, inner),
    ),
    max_leaves=8,
)


@given(SCHEMAS)
def test_what_is_made_for_a_schema_is_valid_for_it(schema: dict[str, Any]) -> None:
    assert fits(example_of(schema), schema)


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """Whether a value is valid, for the schemas drawn above."""
    if "anyOf" in schema:
        return any(fits(value, option) for option in schema["anyOf"])
    if "const" in schema or "enum" in schema:
        return value in schema.get("enum", [schema.get("const")])
    match schema["type"]:
        case "integer":
            return isinstance(value, int) and schema["minimum"] <= value <= schema["maximum"]
        case "number":
            return bool(value > schema["exclusiveMinimum"])
        case "string":
            return isinstance(value, str) and schema["minLength"] <= len(value) <= schema["maxLength"]
        case "array":
            return len(value) >= schema["minItems"] and all(fits(entry, schema["items"]) for entry in value)
        case "object":
            known = schema["properties"]
            return set(schema["required"]) <= set(value) and all(fits(value[name], known[name]) for name in value)
        case "boolean":
            return isinstance(value, bool)
    return value is None


def test_references_are_followed_and_recursion_ends() -> None:
    schema = {
        "$defs": {
            "node": {
                "type": "object",
                "required": ["next"],
                "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
            }
        },
        "$ref": "#/$defs/node",
    }
    assert example_of(schema) == {"next": None}


@given(TEXTS, st.integers(1, 500))
def test_vectors_have_length_one(text: str, size: int) -> None:
    made = unit_vector(text, size)
    assert len(made) == size
    assert math.hypot(*made) == pytest.approx(1, abs=1e-4)
    assert made == unit_vector(text, size)


@pytest.mark.parametrize(
    ("name", "size", "billions", "quantization", "context"),
    [
        ("gemma3:12b", "12.2B", 8.1, "Q4_K_M", 131072),
        ("gemma3:1b", "999.89M", 0.815, "Q4_K_M", 32768),
        ("llama3.3:70b", "70.6B", 42.5, "Q4_K_M", 131072),
        ("qwen2.5:7b-instruct-q8_0", "7.0B", 7.4, "Q8_0", 32768),
        ("meta-llama/Meta-Llama-3.1-8B-Instruct", "8.0B", 16, "BF16", 131072),
        ("nomic-embed-text", "137.00M", 0.274, "F16", 2048),
        ("unheard-of", "7.0B", 4.3, "Q4_K_M", 32768),
    ],
)
def test_a_name_tells_what_a_model_is(name: str, size: str, billions: float, quantization: str, context: int) -> None:
    model = SimModel.from_name(name)
    assert (model.parameter_size, model.quantization, model.context_length) == (size, quantization, context)
    assert model.size_bytes / 1e9 == pytest.approx(billions, rel=0.02)


@pytest.mark.parametrize(
    "options",
    [
        {"slots": 0},
        {"max_loaded": 0},
        {"tokens_per_second": 0},
        {"clock_scale": -1},
        {"load_seconds": math.inf},
        {"port": 70000},
    ],
)
def test_impossible_options_are_refused_by_name(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        SimOptions(**options)


def test_an_unknown_kind_is_refused_with_those_that_there_are() -> None:
    assert set(KINDS) == {"ollama", "vllm", "llamacpp", "mlx", "victoria"}
    with pytest.raises(ValueError, match="llamacpp, mlx, ollama, victoria, vllm"):
        Simulator(SimOptions("olama"))


async def test_a_port_in_use_is_an_error_of_the_start() -> None:
    async with Simulator(SimOptions()) as first:
        with pytest.raises(OSError, match="in use"):
            await Simulator(SimOptions(port=first.port)).start()


@pytest.mark.parametrize("pair", demo_servers(), ids=["remote", "localhost"])
async def test_every_text_of_the_embedded_pair_says_that_it_is_simulated(pair: SimOptions) -> None:
    quick = replace(pair, load_seconds=0, models=tuple(_quick(model) for model in pair.models))
    async with Simulator(quick) as simulator:
        api = client.AsyncClient(simulator.url)
        for model in simulator.speed_model.models:
            said = await api.chat(model.name, [{"role": "user", "content": "Привет"}])
            assert str(said.message.content).startswith("[simulated]")
            assert said.message.thinking is None or said.message.thinking.startswith("[simulated]")
            assert (await api.generate(model.name, "hi", raw=True)).response.startswith("[simulated]")
            first, *_ = [part async for part in await api.generate(model.name, "hi", stream=True)]
            assert str(first.response or first.thinking).startswith("[simulated]")
        await api._client.aclose()
        async with openai.AsyncOpenAI(base_url=f"{simulator.url}/v1", api_key="any", max_retries=0) as other:
            name = simulator.speed_model.models[-1].name
            chat = await other.chat.completions.create(model=name, messages=[{"role": "user", "content": "hi"}])
            assert str(chat.choices[0].message.content).startswith("[simulated]")
            text = await other.completions.create(model=name, prompt="hi")
            assert text.choices[0].text.startswith("[simulated]")


def _quick(model: SimModel | str) -> SimModel:
    assert isinstance(model, SimModel)
    return replace(model, tokens_per_second=math.inf, prefill_tokens_per_second=math.inf, load_seconds=0)


def test_the_embedded_pair_is_a_strong_server_and_the_one_at_hand() -> None:
    remote, localhost = demo_servers()
    names = [[model.name for model in pair.resolve_models(())] for pair in (remote, localhost)]
    assert names == [
        ["llama3.3:70b", "gemma3:12b", "qwen2.5-coder:14b", "qwen3:14b"],
        ["gemma3:1b", "qwen2.5:1.5b", "phi3:3b"],
    ]
    for pair in (remote, localhost):
        for model in pair.resolve_models(()):
            load = pair.load_seconds if model.load_seconds is None else model.load_seconds
            first_token = load + 100 / (model.prefill_tokens_per_second or 1) + 1 / (model.tokens_per_second or 1)
            assert first_token < 2
        assert (pair.kind, pair.port, pair.prefix) == ("ollama", 0, "[simulated] ")


async def test_the_command_says_where_it_is_and_ends_on_a_signal() -> None:
    code = "from penstock.sim import SimOptions, run; run(SimOptions('vllm', models=('m',)))"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    match = re.fullmatch(r"Simulated vllm at (http://127\.0\.0\.1:\d+): m\n", line)
    assert match
    assert (await ask(match[1], "GET", "/health")).status == 200
    os.kill(process.pid, signal.SIGTERM)
    assert await process.wait() == 0
    await process.stdout.read()
