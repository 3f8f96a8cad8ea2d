"""Servers that may answer a call, their order, and the error if there is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.domain.errors import LlmDisabled, ModelNotFound, NoServer, NotFound, PenstockError, Unsupported
from penstock.domain.fleet import Model, Priority
from penstock.domain.request import Operation
from penstock.domain.routing_decision import Tier
from penstock.gateway.fleet.catalog import Catalog
from penstock.gateway.routing.policy import Policy
from tests.unit.gateway.routing.fleets import (
    LIVES,
    NAMES,
    NOW,
    STATUSES,
    call,
    fleet,
    live,
    quiet,
    router,
    servers_of,
    status,
)

PRIMARY, SECONDARY, FALLBACK = Priority.PRIMARY, Priority.SECONDARY, Priority.FALLBACK


def busy_loads(**running: int):
    """Return the loads of servers by the number of calls that run on each."""
    return {name: live(number) for name, number in running.items()}


def failed_loads(**ago: float):
    """Return the loads of servers that failed so many seconds ago."""
    return {name: live(failed_at=NOW - seconds) for name, seconds in ago.items()}


# By name


@pytest.mark.parametrize("asked", ["llama3.1:8b", "LLAMA3.1:8B", "qwen", "qwen:latest", "Qwen", "vit"])
def test_a_model_is_found_by_its_name_in_any_case_with_and_without_latest(asked: str):
    seen = fleet(status("a", "llama3.1:8b", "qwen:latest", Model("org/vision", aliases=("VIT",))))
    assert servers_of(router().decide(seen, call(asked), quiet, NOW)) == ["a"]


def test_a_name_with_latest_finds_a_model_that_has_no_tag():
    seen = fleet(status("a", "tiny", kind="vllm"))
    assert servers_of(router().decide(seen, call("tiny:latest"), quiet, NOW)) == ["a"]
    assert router().decide(seen, call(), quiet, NOW).fallback
    assert not router(model="tiny:latest").decide(seen, call(), quiet, NOW).fallback


def test_a_models_own_name_precedes_anothers_name_without_its_tag():
    seen = fleet(status("a", "m:latest", "m"))
    [candidate] = router().decide(seen, call("m"), quiet, NOW).candidates
    assert candidate.deployment.model.name == "m"
    [candidate] = router().decide(seen, call("m:latest"), quiet, NOW).candidates
    assert candidate.deployment.model.name == "m:latest"


@pytest.mark.parametrize("asked", ["llama3.1:8b", "meta-llama/Llama-3.1-8B", "META-LLAMA/LLAMA-3.1-8B"])
def test_an_alias_makes_two_names_one_model(asked: str):
    aliases = {"llama3.1:8b": ("meta-llama/Llama-3.1-8B",)}
    servers = (status("o", "llama3.1:8b"), status("v", "meta-llama/Llama-3.1-8B", kind="vllm"))
    decision = router().decide(fleet(*servers, aliases=aliases), call(asked), quiet, NOW)
    assert sorted(servers_of(decision)) == ["o", "v"]
    names = {candidate.deployment.server.name: candidate.deployment.model.name for candidate in decision.candidates}
    assert names == {"o": "llama3.1:8b", "v": "meta-llama/Llama-3.1-8B"}


def test_an_alias_without_a_model_is_not_found():
    with pytest.raises(ModelNotFound):
        router().decide(fleet(status("a", "m"), aliases={"x": ("y",)}), call("x"), quiet, NOW)


# Order


def test_up_comes_before_down_and_a_server_that_is_down_is_still_tried():
    servers = (status("down", "m", up=False), status("up", "m", priority=FALLBACK))
    assert servers_of(router().decide(fleet(*servers), call("m"), busy_loads(up=99), NOW)) == ["up", "down"]


def test_primary_comes_before_secondary_while_it_has_a_free_slot():
    seen = fleet(status("s", "m", priority=SECONDARY), status("p", "m", slots=2))
    assert servers_of(router().decide(seen, call("m"), busy_loads(p=1), NOW)) == ["p", "s"]
    assert servers_of(router().decide(seen, call("m"), busy_loads(p=2), NOW)) == ["s", "p"]
    assert servers_of(router().decide(seen, call("m"), busy_loads(p=2, s=2), NOW)) == ["p", "s"]


def test_among_equals_the_fewest_running_per_slot_come_first():
    seen = fleet(status("small", "m", slots=2), status("large", "m", slots=16))
    assert servers_of(router().decide(seen, call("m"), busy_loads(small=1, large=4), NOW)) == ["large", "small"]
    assert servers_of(router().decide(seen, call("m"), busy_loads(small=0, large=4), NOW)) == ["small", "large"]
    assert servers_of(router().decide(seen, call("m"), busy_loads(small=5, large=17), NOW)) == ["large", "small"]


def test_a_server_that_failed_comes_later_for_ten_seconds():
    seen = fleet(status("p", "m"), status("s", "m", priority=SECONDARY), status("f", "m", priority=FALLBACK))
    assert servers_of(router().decide(seen, call("m"), failed_loads(p=1), NOW)) == ["s", "p", "f"]
    assert servers_of(router().decide(seen, call("m"), failed_loads(p=11), NOW)) == ["p", "s", "f"]


@given(STATUSES, LIVES, NAMES)
def test_candidates_are_the_servers_with_the_model_each_once(statuses, lives, name):
    seen = fleet(*statuses)
    try:
        decision = router().decide(seen, call(name), lives, NOW)
    except PenstockError:
        bare = {model.name.lower().removesuffix(":latest") for status in statuses for model in status.models}
        assert name.lower().removesuffix(":latest") not in bare
        return
    assert decision.candidates
    assert len(set(servers_of(decision))) == len(decision.candidates)
    for candidate in decision.candidates:
        assert candidate.deployment.model.name.lower().removesuffix(":latest") == name.lower().removesuffix(":latest")


def well(deployment) -> bool:
    return deployment.is_up


@given(STATUSES, LIVES, NAMES)
def test_fallback_servers_come_after_others_and_down_servers_last(statuses, lives, name):
    try:
        ranked = [c.deployment for c in router().decide(fleet(*statuses), call(name), lives, NOW).candidates]
    except PenstockError:
        return
    ups = [deployment.is_up for deployment in ranked]
    assert ups == sorted(ups, reverse=True)
    healthy = [d.server.priority is FALLBACK for d in ranked if well(d)]
    assert healthy == sorted(healthy)
    order = [d.server.name for d in ranked]
    for deployment in ranked:
        if deployment.server.priority is FALLBACK and well(deployment):
            before = ranked[: order.index(deployment.server.name)]
            assert all(well(d) for d in before)


@given(STATUSES, LIVES, NAMES)
def test_explaining_keeps_the_decision_and_reasons_add_up_to_the_cost(statuses, lives, name):
    seen = fleet(*statuses)
    try:
        decision = router().decide(seen, call(name), lives, NOW)
    except PenstockError as error:
        with pytest.raises(type(error)):
            router().decide(seen, call(name), lives, NOW, explain=True)
        return
    explained = router().decide(seen, call(name), lives, NOW, explain=True)
    assert servers_of(explained) == servers_of(decision)
    for candidate in explained.candidates:
        assert candidate.reasons
        for reason in candidate.reasons:
            assert reason.text
        assert sum(reason.cost for reason in candidate.reasons) == pytest.approx(candidate.cost)


@given(STATUSES, NAMES)
def test_repeated_decisions_are_equal(statuses, name):
    one, seen = router(), fleet(*statuses)
    outcomes = []
    for _ in range(3):
        try:
            outcomes.append(servers_of(one.decide(seen, call(name), quiet, NOW)))
        except PenstockError as error:
            outcomes.append(error.message)
    assert outcomes[0] == outcomes[1] == outcomes[2]


def test_a_new_fleet_gets_new_decisions():
    one = router()
    assert servers_of(one.decide(fleet(status("a", "m")), call("m"), quiet, NOW)) == ["a"]
    catalog = Catalog()
    catalog.publish([status("a", "m")])
    assert servers_of(one.decide(catalog.fleet, call("m"), quiet, NOW)) == ["a"]
    catalog.publish([status("b", "m")])
    assert servers_of(one.decide(catalog.fleet, call("m"), quiet, NOW)) == ["b"]


# What a call restricts


def test_a_call_may_name_its_server_and_its_kinds():
    seen = fleet(status("a", "m"), status("b", "m", kind="vllm"))
    assert servers_of(router().decide(seen, call("m", server="b"), quiet, NOW)) == ["b"]
    assert servers_of(router().decide(seen, call("m", kinds=("ollama",)), quiet, NOW)) == ["a"]
    with pytest.raises(ModelNotFound, match="on server c"):
        router().decide(seen, call("m", server="c"), quiet, NOW)


def test_an_engine_without_the_operation_is_left_out():
    seen = fleet(status("a", "m", kind="mlx"), status("b", "m", kind="vllm"))
    assert servers_of(router().decide(seen, call("m", Operation.EMBEDDING), quiet, NOW)) == ["b"]
    seen = fleet(status("a", "m", kind="mlx"), status("c", "m", kind="mlx"))
    with pytest.raises(Unsupported, match="runs on mlx"):
        router().decide(seen, call("m:latest", Operation.EMBEDDING), quiet, NOW)


def test_agents_are_used_in_the_order_of_the_chain():
    seen = fleet(status("x", "m", kind="mlx"), status("v", "agent", kind="victoria"), status("o", "m"))
    chat = call(operation=Operation.AGENT, kinds=("victoria", "mlx"))
    assert servers_of(router().decide(seen, chat, quiet, NOW)) == ["v", "x"]
    only = call(operation=Operation.AGENT, kinds=("mlx",))
    assert servers_of(router().decide(seen, only, quiet, NOW)) == ["x"]
    without = fleet(status("x", "m", kind="mlx"), status("v", "agent", kind="victoria", up=False), status("o", "m"))
    decision = router().decide(without, chat, quiet, NOW)
    assert (servers_of(decision), decision.fallback) == (["x"], True)
    with pytest.raises(NoServer, match="victoria or mlx"):
        router().decide(fleet(status("o", "m")), chat, quiet, NOW)


def test_model_management_goes_to_the_server_with_the_model_or_the_named_one():
    seen = fleet(status("a", "x"), status("b", "m"), status("v", "m", kind="vllm"), status("c", "m", up=False))
    manage = {"operation": Operation.MANAGE, "kinds": ("ollama",)}
    assert servers_of(router().decide(seen, call("m", **manage), quiet, NOW)) == ["b"]
    assert sorted(servers_of(router().decide(seen, call("new", **manage), quiet, NOW))) == ["a", "b"]
    assert servers_of(router().decide(seen, call("m", server="a", **manage), quiet, NOW)) == ["a"]
    with pytest.raises(NotFound, match=r"no server 'z'\. Servers: a, b, v, c"):
        router().decide(seen, call("m", server="z", **manage), quiet, NOW)


# No model named, and LLM_MODE


@pytest.mark.parametrize("asked", ["", "auto", "AUTO", "auto:fast"])
def test_llm_model_answers_if_no_model_is_named(asked: str):
    seen = fleet(status("a", "other", "llama3.1:8b"))
    decision = router().decide(seen, call(asked), quiet, NOW)
    assert decision.candidates[0].deployment.model.name == "llama3.1:8b"
    assert (decision.warning, decision.fallback) == ("", False)


def test_without_llm_model_a_loaded_or_small_one_answers_with_a_warning():
    embedder = Model("embed", size=1, capabilities=frozenset({"embedding"}))
    big, small = Model("big", size=9), Model("small", size=2)
    seen = fleet(status("a", embedder, big, small))
    decision = router().decide(seen, call(), quiet, NOW)
    assert [candidate.deployment.model.name for candidate in decision.candidates] == ["small", "big"]
    assert decision.fallback
    assert "small answered" in decision.warning
    assert "big answered" in decision.candidates[1].warning
    loaded = fleet(status("a", small, Model("big", size=9, is_loaded=True)))
    assert router().decide(loaded, call(), quiet, NOW).candidates[0].deployment.model.name == "big"


def test_llm_model_on_a_server_that_is_down_is_skipped():
    seen = fleet(status("a", "llama3.1:8b", up=False), status("b", "m"))
    decision = router().decide(seen, call(), quiet, NOW)
    assert servers_of(decision) == ["b"]
    assert decision.fallback


def test_llm_mode_none_turns_off_everything_but_model_management():
    seen = fleet(status("a", "m"))
    off = router(mode="none")
    for asked in (call("m"), call(), call("m", Operation.EMBEDDING), call(operation=Operation.AGENT, kinds=("mlx",))):
        with pytest.raises(LlmDisabled, match="LLM_MODE"):
            off.decide(seen, asked, quiet, NOW)
    assert servers_of(off.decide(seen, call("m", Operation.MANAGE, kinds=("ollama",)), quiet, NOW)) == ["a"]


def test_llm_mode_vllm_uses_vllm_first_and_then_the_ollama_pool():
    seen = fleet(status("o", "m", "other"), status("v", "m", kind="vllm"), status("l", "m", kind="llamacpp"))
    vllm = router(mode="vllm", model="m")
    decision = vllm.decide(seen, call(use_defaults=True), quiet, NOW)
    assert servers_of(decision)[0] == "v"
    assert set(servers_of(decision)) == {"v", "o"}
    assert (decision.fallback, decision.warning) == (False, "")
    assert "of the Ollama pool answered" in decision.candidates[1].warning


def test_llm_mode_vllm_with_vllm_down_falls_back_with_a_warning():
    seen = fleet(status("o", "small"), status("v", "m", kind="vllm", up=False))
    decision = router(mode="vllm", model="m").decide(seen, call("m", use_defaults=True), quiet, NOW)
    assert servers_of(decision) == ["o"]
    assert decision.fallback
    assert "small of the Ollama pool answered" in decision.warning
    alone = fleet(status("v", "m", kind="vllm", up=False))
    assert servers_of(router(mode="vllm", model="m").decide(alone, call("m", use_defaults=True), quiet, NOW)) == ["v"]


def test_llm_mode_vllm_does_not_apply_to_other_apis():
    seen = fleet(status("o", "m"), status("v", "m", kind="vllm", priority=SECONDARY))
    assert servers_of(router(mode="vllm", model="m").decide(seen, call("m"), quiet, NOW)) == ["o", "v"]


def test_a_new_policy_applies_at_once():
    one, seen = router(), fleet(status("a", "m"), status("b", "m"))
    assert one.decide(seen, call("m"), quiet, NOW)
    one.policy = Policy("none")
    with pytest.raises(LlmDisabled):
        one.decide(seen, call("m"), quiet, NOW)


# No server can answer


def test_an_unknown_name_is_reported_with_similar_ones():
    seen = fleet(status("a", "llama3.1:8b", "llama3.1:70b", "qwen2.5-coder:14b"), status("d", "llama3:8b", up=False))
    with pytest.raises(ModelNotFound) as failure:
        router().decide(seen, call("llama3.1"), quiet, NOW)
    assert "llama3.1:8b" in failure.value.message
    assert "llama3.1:70b" in failure.value.message
    assert "qwen" not in failure.value.message
    assert "llama3:8b" not in failure.value.message
    assert failure.value.param == "model"


def test_a_name_like_no_other_is_reported_with_the_models_here():
    with pytest.raises(ModelNotFound, match="Models here: a, b"):
        router().decide(fleet(status("s", "a", "b")), call("zzzz"), quiet, NOW)


def test_a_mismatch_of_llm_model_and_vllm_model_is_named_as_the_cause():
    with pytest.raises(ModelNotFound, match="differ"):
        router(mismatch="LLM_MODEL (x) and VLLM_MODEL (m) differ").decide(
            fleet(status("v", "m")), call("x"), quiet, NOW
        )


def test_with_no_server_up_each_is_named_with_its_reason():
    seen = fleet(
        status("a", up=False, error="connection refused"), status("b", kind="vllm", up=False, error="timed out")
    )
    with pytest.raises(NoServer) as failure:
        router().decide(seen, call("m"), quiet, NOW)
    for words in ("a (ollama, http://a:1): connection refused", "b (vllm, http://b:1): timed out"):
        assert words in failure.value.message
    assert failure.value.retry_after


def test_without_any_server_the_error_says_to_set_an_address():
    with pytest.raises(NoServer, match="set its address"):
        router().decide(fleet(), call("m"), quiet, NOW)


@given(STATUSES, st.text(max_size=30))
def test_any_name_is_found_or_rejected_with_a_message(statuses, name):
    decision, refusal = None, None
    try:
        decision = router().decide(fleet(*statuses), call(name), quiet, NOW)
    except PenstockError as error:
        refusal = error
    if refusal is not None:
        assert refusal.message
        assert refusal.status in (400, 404, 503)
        assert not isinstance(refusal, ModelNotFound) or any(status.is_up for status in statuses)
    else:
        assert decision.candidates
        assert decision.reason


def test_deciding_changes_no_live_state_of_the_servers():
    catalog = Catalog(on_demand=frozenset({"ollama"}))
    fleet_now = catalog.publish([status("a", "m", "gemma3:1b"), status("b", "m")])
    one = router()
    before = {name: dict(load.throughputs) for name, load in catalog.loads.items()}
    for asked in (
        call("m"),
        call("m", max_wait=1000.0),
        call("new", Operation.MANAGE, kinds=("ollama",)),
        call("auto"),
    ):
        for explain in (False, True):
            one.decide(fleet_now, asked, catalog.loads, NOW, explain)
    assert {name: load.throughputs for name, load in catalog.loads.items()} == before
    assert all(not load.residency.models and not load.swap_queue.running for load in catalog.loads.values())


def test_a_session_prefers_the_server_that_answered_it_last():
    seen = fleet(status("a", "m"), status("b", "m"))
    one = router()
    one.session_affinity.remember(b"s", "b")
    assert servers_of(one.decide(seen, call("m", session=b"s"), quiet, NOW))[0] == "b"
    one.session_affinity.remember(b"s", "a")
    assert servers_of(one.decide(seen, call("m", session=b"s"), quiet, NOW))[0] == "a"


def test_a_server_that_is_down_and_blocked_is_as_unavailable_as_one_that_is_down():
    seen = fleet(status("a", "m", up=False), status("b", "m"))
    blocked = {name: live(traffic_share=lambda model, now: 0.0) for name in "ab"}
    decision = router().decide(seen, call("m"), blocked, NOW)
    assert {candidate.tier for candidate in decision.candidates} == {Tier.FITS_UNAVAILABLE}
