"""When servers are looked at, and what a look makes of their state."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.control.discovery.health import (
    LONGEST_ABSENCE,
    PATIENCE,
    Pulse,
    Sight,
    forgivable,
    judge,
    offered,
)
from penstock.domain.errors import ConnectFailed, UpstreamTimeout
from penstock.domain.fleet import Inventory, Model, Server, ServerStatus, State
from penstock.gateway.fleet.catalog import ServerLoad

SERVER = Server("a", "lister", ("http://a:1",))
UP = ServerStatus(SERVER, State.UP, "http://a:1", (Model("m"),))


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 0.999)), max_size=60))
def test_the_gap_between_looks_doubles_with_each_failure_and_never_leaves_its_bounds(looks):
    pulse, now, failures = Pulse(interval=30.0, first_retry=1.0), 0.0, 0
    for ok, chance in looks:
        pulse.begin(now)
        pulse.settle(now, ok, chance)
        failures = 0 if ok else failures + 1
        planned = 30.0 if ok else min(LONGEST_ABSENCE, 2.0 ** (failures - 1))
        assert planned * 0.899 <= pulse.next_at - now <= planned * 1.101
        now = pulse.next_at


@given(st.lists(st.floats(0.001, 0.4), min_size=1, max_size=100))
def test_a_storm_of_suspicion_costs_one_look_a_second(gaps):
    pulse, now, looks = Pulse(), 0.0, []
    pulse.begin(now)
    pulse.settle(now, True, 0.5)
    for gap in gaps:
        now += gap
        pulse.suspect(now)
        if now >= pulse.next_at:
            looks.append(now)
            pulse.begin(now)
            pulse.settle(now, True, 0.5)
    assert all(later - sooner >= 1.0 for sooner, later in zip([0.0, *looks], looks, strict=False))
    assert len(looks) >= int(now / 1.5)


def test_a_suspicion_during_a_look_brings_another_one_soon_after_it():
    pulse = Pulse()
    pulse.begin(10.0)
    assert not pulse.suspect(10.1)
    pulse.settle(10.2, True, 0.5)
    assert pulse.next_at == 11.0


def test_a_suspicion_never_delays_a_look_that_is_due_sooner():
    pulse = Pulse(first_retry=0.1)
    pulse.begin(10.0)
    pulse.settle(10.0, False, 0.5)
    assert not pulse.suspect(10.01)
    assert pulse.next_at == 10.1


def test_a_server_that_is_down_keeps_its_models_and_says_why():
    after = judge(UP, Sight(error=ConnectFailed("connection refused")), 5.0)
    assert (after.state, after.models, after.error, after.checked_at) == (
        State.DOWN,
        UP.models,
        "connection refused",
        5.0,
    )


def test_a_server_that_loads_keeps_the_models_it_had():
    after = judge(UP, Sight(Inventory((), State.LOADING, detail="50 %"), "http://a:1"), 5.0)
    assert (after.state, after.models, after.detail, after.error) == (State.LOADING, UP.models, "50 %", "")


def test_a_server_that_is_up_and_lists_nothing_has_nothing():
    assert judge(UP, Sight(Inventory(), "http://a:1"), 5.0).models == ()


def test_an_unexpected_error_is_told_by_its_type_only():
    after = judge(UP, Sight(error=KeyError("secret")), 5.0)
    assert after.error == "its answer could not be read (KeyError)"


def test_a_busy_server_that_misses_a_look_is_forgiven_while_calls_on_it_do_well():
    late = Sight(error=UpstreamTimeout("2 s"))
    assert forgivable(UP, late, ServerLoad(running=1), 0)
    assert not forgivable(UP, late, ServerLoad(running=1), PATIENCE)
    assert not forgivable(UP, late, ServerLoad(running=0), 0)
    assert not forgivable(UP, late, ServerLoad(running=1, consecutive_failures=1), 0)
    assert not forgivable(UP, Sight(error=ConnectFailed("refused")), ServerLoad(running=1), 0)
    assert not forgivable(UP, late, None, 0)


def test_settings_narrow_a_servers_models_by_any_of_their_names():
    server = Server("a", "lister", ("http://a:1",), models=("Llama3", "x"))
    models = (Model("llama3:latest"), Model("other"), Model("long/name", aliases=("x",)))
    assert [model.name for model in offered(server, models)] == ["llama3:latest", "long/name"]


def test_settings_name_the_models_of_a_server_that_lists_none():
    server = Server("a", "lister", ("http://a:1",), models=("m1", "m2"))
    assert [model.name for model in offered(server, ())] == ["m1", "m2"]
