"""A simulated model that is given the beginning of its answer says the rest, and nothing else."""

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.sim.generated_text import GenerationRequest, compose_answer, tokens_of
from penstock.sim.openai.request import read_prompt
from penstock.sim.options import SimOptions

TEXTS = st.one_of(st.none(), st.text(min_size=1, max_size=80), st.just("Ships pass the lock. 🚢 Так и живём."))


def whole(options: SimOptions, ask: GenerationRequest) -> str:
    return compose_answer(options, ask, msgspec.json.encode).text


@given(TEXTS, st.text(max_size=60), st.floats(0, 1), st.sampled_from(["", "[simulated] "]))
def test_wherever_an_answer_breaks_off_the_rest_follows(text, message, part, prefix):
    options = replace(SimOptions.instant("vllm", "m", text=text), prefix=prefix)
    said = whole(options, GenerationRequest("m", message))
    cut = said[: round(part * len(said))]
    rest = whole(options, GenerationRequest("m", message, answer_start=cut))
    assert cut + rest == said


@given(st.text(min_size=1, max_size=60), st.integers(1, 40))
def test_a_raw_prompt_that_ends_with_the_answers_beginning_is_gone_on_with(message, tokens):
    options = SimOptions.instant("vllm", "m")
    said = whole(options, GenerationRequest("m", message, raw=True))
    cut = "".join(tokens_of(said)[:tokens])
    assert cut + whole(options, GenerationRequest("m", message + cut, raw=True)) == said


@given(st.integers(0, 30), st.integers(1, 60))
def test_what_is_left_of_a_limit_is_what_is_left_of_the_answer(said_tokens, limit):
    options = SimOptions.instant("vllm", "m")
    full = compose_answer(options, GenerationRequest("m", "hi", max_tokens=limit), msgspec.json.encode)
    said = "".join(full.tokens[:said_tokens])
    room = limit - said_tokens
    if room > 0:
        rest = compose_answer(
            options, GenerationRequest("m", "hi", max_tokens=room, answer_start=said), msgspec.json.encode
        )
        assert said + rest.text == full.text
        assert rest.finish == full.finish


@pytest.mark.parametrize(
    ("last", "said"),
    [
        ({"role": "assistant", "content": "Well, "}, "Well, "),
        ({"role": "assistant", "content": [{"type": "text", "text": "Well, "}]}, "Well, "),
        ({"role": "assistant", "content": "x", "tool_calls": [{"id": "1"}]}, ""),
        ({"role": "user", "content": "And?"}, ""),
    ],
)
def test_only_a_last_turn_of_the_assistants_own_text_is_gone_on_with(last, said):
    assert read_prompt([{"role": "user", "content": "hi"}, last]).answer_start == said
