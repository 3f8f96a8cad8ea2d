"""Throughput: guesses from the size of a model, and learning from answered calls."""

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from penstock.domain.fleet import Deployment, Model, Server
from penstock.domain.response import Usage
from penstock.gateway.fleet.learning import AnsweredCall, learn_throughput
from penstock.gateway.fleet.server_load import ServerLoad
from penstock.gateway.fleet.throughput import ModelThroughput, SpeedFactor

SERVER = Server("a", "ollama", ("http://a:1",))
DEPLOYMENT = Deployment(SERVER, Model("m"), SERVER.url, 2, on_demand=True)


def live() -> ServerLoad:
    one = ServerLoad()
    one.throughputs["m"] = ModelThroughput(one.speed_factor, 8.0)
    return one


def test_a_bigger_model_is_guessed_to_be_slower_and_to_take_longer_to_load():
    small, big = ModelThroughput(SpeedFactor(), 1.0), ModelThroughput(SpeedFactor(), 70.0)
    assert small.decode_rate > big.decode_rate
    assert small.prefill_rate > big.prefill_rate
    assert small.load_seconds < big.load_seconds


def test_a_model_that_has_never_answered_is_assumed_to_be_quick():
    rates = ModelThroughput(SpeedFactor(), 8.0)
    assert (rates.first_token_overhead, rates.answer_seconds) == (0.0, 0.0)
    assert rates.service_seconds > 0


def test_a_slow_model_lowers_the_guesses_for_the_others_on_its_server():
    pace = SpeedFactor()
    known, unknown, elsewhere = (
        ModelThroughput(pace, 8.0),
        ModelThroughput(pace, 1.0),
        ModelThroughput(SpeedFactor(), 1.0),
    )
    known.observe_answer(100, 100.0)
    unknown.update_estimates()
    assert unknown.decode_rate < elsewhere.decode_rate / 5


@given(st.floats(1.0, 500.0), st.floats(1.0, 500.0))
def test_rates_converge_to_repeated_observations(before, now):
    rates = ModelThroughput(SpeedFactor(), 8.0)
    for _ in range(5):
        rates.observe_answer(100, 100 / before)
    for _ in range(40):
        rates.observe_answer(100, 100 / now)
        rates.observe_prefill(1000, 1000 / now + rates.first_token_overhead)
        rates.observe_load(now)
    assert rates.decode_rate == pytest.approx(now, rel=0.01)
    assert rates.load_seconds == pytest.approx(now, rel=0.01)
    assert rates.prefill_rate == pytest.approx(now, rel=0.3)


numbers = st.integers(0, 10**6)
seconds = st.floats(0.0, 10**4)
LESSONS = st.tuples(st.tuples(numbers, numbers, seconds), st.booleans(), st.integers(0, 9), seconds, seconds)


@settings(phases=(Phase.explicit, Phase.generate))
@given(st.lists(LESSONS, max_size=8))
def test_no_report_of_an_engine_makes_a_rate_unusable(lessons):
    one = live()
    for (prompt, completion, load_seconds), held, ahead, first, more in lessons:
        usage = Usage(
            prompt, completion, load_seconds=load_seconds, prompt_seconds=load_seconds, completion_seconds=load_seconds
        )
        learn_throughput(
            one,
            DEPLOYMENT,
            AnsweredCall(
                usage, model_was_loaded=held, running_before=ahead, first_byte_seconds=first, total_seconds=first + more
            ),
        )
    rates = one.throughputs["m"]
    for value in (
        rates.load_seconds,
        rates.prefill_rate,
        rates.decode_rate,
        rates.service_seconds,
        rates.seconds_per_prompt_token,
    ):
        assert 0 < value < float("inf")
    assert rates.first_token_overhead >= 0


def test_times_that_the_engine_reports_take_precedence_over_measured_ones():
    one = live()
    usage = Usage(1000, 100, load_seconds=7.0, prompt_seconds=2.0, completion_seconds=4.0, total_seconds=13.0)
    learn_throughput(
        one,
        DEPLOYMENT,
        AnsweredCall(usage, model_was_loaded=False, running_before=0, first_byte_seconds=50.0, total_seconds=90.0),
    )
    assert one.throughputs["m"].load_seconds == 7.0
    assert one.throughputs["m"].decode_rate == 25.0


def test_the_load_time_is_the_extra_time_of_a_cold_model():
    one = live()
    learn_throughput(
        one,
        DEPLOYMENT,
        AnsweredCall(
            Usage(10, 100), model_was_loaded=False, running_before=0, first_byte_seconds=9.0, total_seconds=11.0
        ),
    )
    assert one.throughputs["m"].load_seconds == pytest.approx(9.0, abs=0.1)
    assert one.throughputs["m"].decode_rate == 50.0


def test_time_in_the_servers_queue_is_not_learned_as_its_speed():
    one = live()
    learn_throughput(
        one,
        DEPLOYMENT,
        AnsweredCall(
            Usage(10, 100), model_was_loaded=True, running_before=2, first_byte_seconds=60.0, total_seconds=62.0
        ),
    )
    assert one.throughputs["m"].first_token_overhead == 0.0


def test_learning_of_one_model_corrects_the_guesses_for_the_others_on_its_server():
    load = live()
    other = load.throughputs["other"] = ModelThroughput(load.speed_factor, 1.0)
    service_seconds = other.service_seconds
    learn_throughput(
        load,
        DEPLOYMENT,
        AnsweredCall(
            Usage(10, 100), model_was_loaded=True, running_before=0, first_byte_seconds=1.0, total_seconds=101.0
        ),
    )
    assert other.service_seconds > 5 * service_seconds


def test_a_model_whose_throughput_is_not_tracked_teaches_nothing():
    load = ServerLoad()
    call = AnsweredCall(
        Usage(10, 100), model_was_loaded=True, running_before=0, first_byte_seconds=1.0, total_seconds=2.0
    )
    learn_throughput(load, DEPLOYMENT, call)
    assert not load.throughputs
