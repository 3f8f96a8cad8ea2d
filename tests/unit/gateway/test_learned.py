"""What calls teach: rates that follow what was seen, and guesses until then."""

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from penstock.domain.fleet import Deployment, Model, Server
from penstock.domain.response import Usage
from penstock.gateway.fleet.residency import KEEP_ALIVE_SECONDS, Residency
from penstock.gateway.fleet.server_load import ServerLoad
from penstock.gateway.fleet.throughput import ModelThroughput, SpeedFactor
from penstock.gateway.fleet.throughput_learning import AnsweredCall, learn_throughput

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


def test_what_has_never_answered_is_hoped_to_be_quick():
    rates = ModelThroughput(SpeedFactor(), 8.0)
    assert (rates.first_token_overhead, rates.answer_seconds) == (0.0, 0.0)
    assert rates.service_seconds > 0


def test_the_slowness_of_one_model_tells_of_the_others_on_its_server():
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
def test_rates_come_to_what_is_seen_again_and_again(before, now):
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
def test_nothing_that_engines_say_makes_a_rate_useless(lessons):
    one = live()
    for (prompt, completion, told), held, ahead, first, more in lessons:
        usage = Usage(prompt, completion, load_seconds=told, prompt_seconds=told, completion_seconds=told)
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


def test_what_the_engine_says_of_its_times_counts_more_than_what_was_seen_from_outside():
    one = live()
    told = Usage(1000, 100, load_seconds=7.0, prompt_seconds=2.0, completion_seconds=4.0, total_seconds=13.0)
    learn_throughput(
        one,
        DEPLOYMENT,
        AnsweredCall(told, model_was_loaded=False, running_before=0, first_byte_seconds=50.0, total_seconds=90.0),
    )
    assert one.throughputs["m"].load_seconds == 7.0
    assert one.throughputs["m"].decode_rate == 25.0


def test_the_load_is_what_a_cold_model_took_longer():
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


def test_a_wait_in_the_servers_queue_teaches_nothing_of_its_speed():
    one = live()
    learn_throughput(
        one,
        DEPLOYMENT,
        AnsweredCall(
            Usage(10, 100), model_was_loaded=True, running_before=2, first_byte_seconds=60.0, total_seconds=62.0
        ),
    )
    assert one.throughputs["m"].first_token_overhead == 0.0


# What is in memory


def test_a_model_that_was_used_and_is_gone_shows_how_much_room_there_is():
    here = Residency()
    here.touch("a", 6, 1.0)
    here.touch("b", 5, 2.0)
    assert set(here.models) == {"a", "b"}
    here.reconcile([("b", 5)], 3.0)
    assert set(here.models) == {"b"}
    assert not here.can_fit("z", 6)
    assert here.can_fit("z", 5)


def test_a_model_that_went_for_its_age_shows_nothing():
    here = Residency()
    here.touch("a", 6, 1.0)
    here.touch("b", 5, KEEP_ALIVE_SECONDS)
    here.reconcile([("b", 5)], KEEP_ALIVE_SECONDS + 2)
    assert here.can_fit("z", 100)


def test_what_is_seen_together_fits_together():
    here = Residency()
    here.smallest_overflow = 8
    here.reconcile([("a", 6), ("b", 5)], 1.0)
    assert here.can_fit("z", 100)


def test_a_model_asked_since_the_look_is_still_there():
    here = Residency()
    here.touch("a", 6, 5.0)
    here.reconcile([], 4.0)
    assert "a" in here.models


def test_the_idle_make_way_before_the_busy_and_the_oldest_before_the_others():
    here = Residency()
    for at, name in enumerate("abc"):
        here.touch(name, 3, float(at))
    here.smallest_overflow = 10
    here.touch("d", 3, 9.0, busy={"a"})
    assert set(here.models) == {"a", "c", "d"}


events = st.lists(
    st.one_of(
        st.tuples(st.just("used"), st.sampled_from("abcd"), st.integers(1, 9)),
        st.tuples(st.just("seen"), st.sets(st.sampled_from("abcd")), st.integers(1, 9)),
    ),
    max_size=40,
)


@given(events)
def test_what_was_asked_last_is_there_and_what_a_look_shows_is_believed(events):
    here, sizes = Residency(), {"a": 1, "b": 4, "c": 6, "d": 9}
    now = 0.0
    for what, which, wait in events:
        now += wait
        if what == "used":
            here.touch(str(which), sizes[str(which)], now)
            assert which in here.models
        else:
            here.reconcile([(name, sizes[name]) for name in which], now)
            assert set(here.models) == set(which)
            assert here.smallest_overflow == 0 or here.smallest_overflow > sum(sizes[name] for name in which)
