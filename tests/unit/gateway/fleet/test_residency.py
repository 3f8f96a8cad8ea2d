"""Residency: the models in memory between two probes, and the memory that a server seems to have."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.gateway.fleet.residency import KEEP_ALIVE_SECONDS, Residency


def test_an_evicted_model_shows_the_limit_of_the_memory():
    here = Residency()
    here.touch("a", 6, 1.0)
    here.touch("b", 5, 2.0)
    assert set(here.models) == {"a", "b"}
    here.reconcile([("b", 5)], 3.0)
    assert set(here.models) == {"b"}
    assert not here.can_fit("z", 6)
    assert here.can_fit("z", 5)


def test_a_model_that_expired_does_not_show_a_limit():
    here = Residency()
    here.touch("a", 6, 1.0)
    here.touch("b", 5, KEEP_ALIVE_SECONDS)
    here.reconcile([("b", 5)], KEEP_ALIVE_SECONDS + 2)
    assert here.can_fit("z", 100)


def test_models_that_are_loaded_together_fit_together():
    here = Residency()
    here.smallest_overflow = 8
    here.reconcile([("a", 6), ("b", 5)], 1.0)
    assert here.can_fit("z", 100)


def test_a_model_used_since_the_probe_counts_as_loaded():
    here = Residency()
    here.touch("a", 6, 5.0)
    here.reconcile([], 4.0)
    assert "a" in here.models


def test_idle_models_are_evicted_first_and_the_least_recent_of_them():
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
def test_the_model_used_last_is_loaded_and_probes_are_trusted(events):
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
