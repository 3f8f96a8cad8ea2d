"""Turning the result of a probe into a status."""

from penstock.control.discovery.health import (
    MAX_EXCUSED_TIMEOUTS,
    ProbeResult,
    evaluate_probe,
    is_excusable_timeout,
    select_offered_models,
)
from penstock.domain.errors import ConnectFailed, UpstreamTimeout
from penstock.domain.fleet import Inventory, Model, Server, ServerStatus, State
from penstock.gateway.fleet.server_load import ServerLoad

SERVER = Server("a", "lister", ("http://a:1",))
UP = ServerStatus(SERVER, State.UP, "http://a:1", (Model("m"),))


def test_a_server_that_is_down_keeps_its_models_and_has_a_reason():
    after = evaluate_probe(UP, ProbeResult(error=ConnectFailed("connection refused")), 5.0)
    assert (after.state, after.models, after.error, after.checked_at) == (
        State.DOWN,
        UP.models,
        "connection refused",
        5.0,
    )


def test_a_server_that_is_loading_keeps_its_models():
    after = evaluate_probe(UP, ProbeResult(Inventory((), State.LOADING, detail="50 %"), "http://a:1"), 5.0)
    assert (after.state, after.models, after.detail, after.error) == (State.LOADING, UP.models, "50 %", "")


def test_a_server_that_is_up_and_lists_no_model_has_none():
    assert evaluate_probe(UP, ProbeResult(Inventory(), "http://a:1"), 5.0).models == ()


def test_an_unexpected_error_is_described_by_its_type_only():
    after = evaluate_probe(UP, ProbeResult(error=KeyError("secret")), 5.0)
    assert after.error == "Its response could not be read (KeyError)."


def test_a_timeout_is_excused_while_calls_on_the_server_succeed():
    late = ProbeResult(error=UpstreamTimeout("2 s"))
    assert is_excusable_timeout(UP, late, ServerLoad(running=1), 0)
    assert not is_excusable_timeout(UP, late, ServerLoad(running=1), MAX_EXCUSED_TIMEOUTS)
    assert not is_excusable_timeout(UP, late, ServerLoad(running=0), 0)
    assert not is_excusable_timeout(UP, late, ServerLoad(running=1, consecutive_failures=1), 0)
    assert not is_excusable_timeout(UP, ProbeResult(error=ConnectFailed("refused")), ServerLoad(running=1), 0)
    assert not is_excusable_timeout(UP, late, None, 0)


def test_settings_narrow_a_servers_models_by_any_of_their_names():
    server = Server("a", "lister", ("http://a:1",), models=("Llama3", "x"))
    models = (Model("llama3:latest"), Model("other"), Model("long/name", aliases=("x",)))
    assert [model.name for model in select_offered_models(server, models)] == ["llama3:latest", "long/name"]


def test_settings_name_the_models_of_a_server_that_lists_none():
    server = Server("a", "lister", ("http://a:1",), models=("m1", "m2"))
    assert [model.name for model in select_offered_models(server, ())] == ["m1", "m2"]
