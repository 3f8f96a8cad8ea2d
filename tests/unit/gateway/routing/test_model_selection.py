"""Choice of a model if none is named: the fitting one where it starts soonest, else a lesser one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.domain.complexity import Level, RequestProfile, TaskType
from penstock.domain.errors import ContextLengthExceeded, PenstockError, Unsupported, WaitTooLong
from penstock.domain.fleet import Model, Priority
from penstock.domain.request import Call, Operation
from penstock.gateway.fleet.catalog import Catalog
from penstock.gateway.routing.model_profile import estimate_billions
from penstock.gateway.routing.model_selection import ENGLISH_WARNING, RUSSIAN_WARNING
from penstock.gateway.routing.ranking import COST_BANDS_PER_SECOND
from tests.unit.gateway.routing.fleets import NOW, call, live, router, servers_of, status

REMOTE = ("llama3.3:70b", "gemma3:12b", "qwen2.5-coder:14b", "qwen3:14b")
LOCAL = ("gemma3:1b", "qwen2.5:1.5b", "phi3:3b")
PRIMARY, SECONDARY, FALLBACK = Priority.PRIMARY, Priority.SECONDARY, Priority.FALLBACK
TRIVIAL, SIMPLE, MODERATE, COMPLEX = Level
CHAT, EXPLANATION, CODE, MATH = TaskType.CHAT, TaskType.EXPLANATION, TaskType.CODE, TaskType.MATH_REASONING


def fleet(*statuses):
    return Catalog(on_demand=frozenset({"ollama"}), estimate_billions=estimate_billions).publish(statuses)


def pair(up: bool = True, remote=REMOTE, local=LOCAL):
    """Return a fleet of a powerful server and a laptop."""
    return fleet(status("remote", *remote, up=up), status("localhost", *local, priority=SECONDARY))


def asks(level: Level, task_type: TaskType = CHAT, model: str = "auto", **more) -> Call:
    wishes = {name: more.pop(name) for name in ("max_wait", "session", "max_tokens", "server") if name in more}
    return call(model, profile=RequestProfile(level, task_type, **more), **wishes)


def busy_load(model: str, running: int):
    """Return the load of a server that runs so many calls of a model."""
    one = live(running)
    one.swap_queue.running[model] = running
    one.residency.touch(model, 1, NOW)
    return one


def describe_choice(decision) -> tuple[str, str]:
    first = decision.candidates[0].deployment
    return first.model.name, first.server.name


def choose(seen, asked: Call, lives=None, one=None):
    return (one or router()).decide(seen, asked, lives or {}, NOW)


@pytest.mark.parametrize(
    ("level", "task_type", "model", "server"),
    [
        (TRIVIAL, CHAT, "gemma3:1b", "localhost"),
        (MODERATE, EXPLANATION, "gemma3:12b", "remote"),
        (COMPLEX, CODE, "qwen2.5-coder:14b", "remote"),
        (COMPLEX, EXPLANATION, "llama3.3:70b", "remote"),
        (COMPLEX, MATH, "llama3.3:70b", "remote"),
    ],
)
def test_the_model_that_fits_is_chosen(level, task_type, model, server):
    decision = choose(pair(), asks(level, task_type))
    assert describe_choice(decision) == (model, server)
    assert (decision.level, decision.task_type) == (level.label, task_type.value)
    assert (decision.warning, decision.fallback) == ("", False)


@pytest.mark.parametrize(
    ("level", "task_type", "model"), [(COMPLEX, CODE, "qwen2.5:1.5b"), (MODERATE, EXPLANATION, "phi3:3b")]
)
@pytest.mark.parametrize("remote", [REMOTE, ()])
def test_with_the_fitting_models_down_a_lesser_one_answers_with_a_warning(level, task_type, model, remote):
    for russian, warning in ((True, RUSSIAN_WARNING), (False, ENGLISH_WARNING)):
        decision = choose(pair(False, remote), asks(level, task_type, prefers_russian=russian))
        assert describe_choice(decision) == (model, "localhost")
        assert (decision.warning, decision.fallback) == (warning, True)
    assert RUSSIAN_WARNING == "Используется упрощённая модель"


def test_a_lesser_model_follows_the_fitting_one_with_a_warning():
    decision = choose(pair(), asks(COMPLEX, CODE, prefers_russian=True))
    lesser = [candidate for candidate in decision.candidates if candidate.deployment.server.name == "localhost"]
    assert lesser
    assert all(candidate.warning == RUSSIAN_WARNING for candidate in lesser)
    assert not decision.candidates[0].warning


def test_a_fleet_that_never_had_a_better_model_gets_no_warning():
    decision = choose(fleet(status("a", "gemma3:1b"), status("b", "qwen2.5:1.5b")), asks(COMPLEX, CODE))
    assert decision.candidates[0].tier >= 2
    assert not decision.warning


def test_a_bigger_model_answers_if_the_fitting_one_would_start_much_later():
    seen = pair(remote=(Model("gemma3:12b", is_loaded=True),), local=(Model("gemma3:1b", is_loaded=True),))
    one = router()
    assert describe_choice(choose(seen, asks(TRIVIAL), one=one)) == ("gemma3:1b", "localhost")
    assert describe_choice(
        choose(seen, asks(TRIVIAL), {"localhost": busy_load("gemma3:1b", 40), "remote": busy_load("gemma3:12b", 0)})
    ) == ("gemma3:12b", "remote")


def test_the_server_that_has_the_model_loaded_is_preferred():
    seen = fleet(status("a", "gemma3:12b"), status("b", Model("gemma3:12b", is_loaded=True)))
    catalog = Catalog(on_demand=frozenset({"ollama"}), estimate_billions=estimate_billions)
    seen = catalog.publish(
        [status("a", "gemma3:12b"), status("b", Model("gemma3:12b", is_loaded=True))],
    )
    catalog.loads["b"].residency.touch("gemma3:12b", 1, NOW)
    assert servers_of(router().decide(seen, asks(MODERATE), catalog.loads, NOW))[0] == "b"


def test_a_fallback_server_comes_after_others_but_before_lesser_models():
    reserve, main = status("f", "gemma3:12b", priority=FALLBACK), status("m", "gemma3:12b")
    small = status("s", "gemma3:1b")
    asked = asks(MODERATE)
    assert servers_of(choose(fleet(reserve, main, small), asked, {"m": live(99)}))[0] == "m"
    assert servers_of(choose(fleet(reserve, small), asked))[0] == "f"
    assert not choose(fleet(reserve, small), asked).warning


@pytest.mark.parametrize(
    ("word", "model"),
    [("fast", "gemma3:1b"), ("balanced", "gemma3:12b"), ("powerful", "llama3.3:70b"), ("code", "qwen2.5-coder:14b")],
)
def test_a_model_class_overrides_the_classification(word, model):
    assert describe_choice(choose(pair(), asks(MODERATE, EXPLANATION, f"auto:{word}")))[0] == model


def test_an_unknown_model_class_is_rejected_with_the_known_ones():
    with pytest.raises(Unsupported, match="auto:fast, auto:balanced"):
        choose(pair(), asks(MODERATE, model="auto:huge"))


# What a model needs


def test_images_go_to_a_vision_model():
    seen = fleet(status("a", "qwen2.5:14b", Model("llava:7b", capabilities=frozenset({"completion", "vision"}))))
    assert describe_choice(choose(seen, asks(MODERATE, image_count=1)))[0] == "llava:7b"
    with pytest.raises(Unsupported, match="vision"):
        choose(fleet(status("a", "qwen2.5:14b"), status("b", "qwen2.5:7b")), asks(MODERATE, image_count=1))


def test_tools_go_to_a_model_that_supports_them():
    mute, able = (Model(f"qwen2.5:{size}b", capabilities=frozenset(caps)) for size, caps in
                  ((14, {"completion"}), (7, {"completion", "tools"})))  # fmt: skip
    assert describe_choice(choose(fleet(status("a", mute, able)), asks(MODERATE, has_tools=True)))[0] == "qwen2.5:7b"
    with pytest.raises(Unsupported, match="tools"):
        choose(fleet(status("a", mute)), asks(MODERATE, has_tools=True))


def test_a_long_conversation_goes_to_a_model_with_enough_context():
    small, large = Model("qwen2.5:14b", context_length=8192), Model("mistral-nemo:12b", context_length=131072)
    assert (
        describe_choice(choose(fleet(status("a", small, large)), asks(MODERATE, context_tokens=20_000)))[0]
        == large.name
    )
    with pytest.raises(ContextLengthExceeded, match="8192"):
        choose(fleet(status("a", small)), asks(MODERATE, context_tokens=20_000))


# Patience


def test_a_call_with_a_short_max_wait_gets_a_lesser_model_in_time():
    seen = pair(remote=(Model("gemma3:12b", is_loaded=True),), local=(Model("gemma3:1b", is_loaded=True),))
    lives = {"remote": busy_load("gemma3:12b", 50), "localhost": busy_load("gemma3:1b", 0)}
    patient = router().decide(seen, asks(MODERATE, max_wait=10_000.0), lives, NOW)
    assert describe_choice(patient)[0] == "gemma3:12b"
    hasty = router().decide(seen, asks(MODERATE, max_wait=2.0), lives, NOW)
    assert (describe_choice(hasty)[0], hasty.warning) == ("gemma3:1b", ENGLISH_WARNING)


def test_the_error_for_a_named_model_names_one_that_could_start_in_time():
    seen = pair(remote=(Model("gemma3:12b", is_loaded=True),), local=(Model("gemma3:1b", is_loaded=True),))
    lives = {"remote": busy_load("gemma3:12b", 50), "localhost": busy_load("gemma3:1b", 0)}
    with pytest.raises(WaitTooLong, match="gemma3:1b on localhost") as failure:
        router().decide(seen, call("gemma3:12b", max_wait=2.0), lives, NOW)
    assert failure.value.status == 429
    assert (failure.value.retry_after or 0) >= 1
    assert router().decide(seen, call("gemma3:1b", max_wait=2.0), lives, NOW).candidates


# Always


MODELS = st.sampled_from([*REMOTE, *LOCAL, "mystery", "nomic-embed-text", "qwen3:30b-a3b"])
FLEETS = st.lists(
    st.tuples(
        st.lists(st.tuples(MODELS, st.booleans()), max_size=4, unique_by=lambda item: item[0]),
        st.booleans(),
        st.sampled_from(list(Priority)),
        st.integers(1, 4),
        st.integers(0, 9),
    ),
    min_size=1,
    max_size=5,
)
ASKS = st.builds(asks, st.sampled_from(list(Level)), st.sampled_from(list(TaskType)), prefers_russian=st.booleans())


def world(seed_data):
    catalog = Catalog(on_demand=frozenset({"ollama"}), estimate_billions=estimate_billions)
    statuses = [
        status(
            f"s{n}", *(Model(name, size=10, is_loaded=held) for name, held in models), up=up, priority=rank, slots=slots
        )
        for n, (models, up, rank, slots, _) in enumerate(seed_data)
    ]
    seen = catalog.publish(statuses)
    for n, (models, _, _, _, running) in enumerate(seed_data):
        catalog.loads[f"s{n}"].running = running
        catalog.loads[f"s{n}"].residency.reconcile([(name, 10) for name, held in models if held], NOW)
    return seen, catalog.loads


@given(FLEETS, ASKS)
def test_explaining_keeps_the_choice_and_reasons_add_up_to_the_cost(generated, asked):
    seen, lives = world(generated)
    try:
        decision = router().decide(seen, asked, lives, NOW)
    except PenstockError as error:
        with pytest.raises(type(error)):
            router().decide(seen, asked, lives, NOW, explain=True)
        return
    explained = router().decide(seen, asked, lives, NOW, explain=True)
    assert describe_choice(decision) == describe_choice(explained)
    for candidate in explained.candidates:
        assert sum(reason.cost for reason in candidate.reasons) == pytest.approx(candidate.cost)
        assert 0 < candidate.score <= 1
    order = [(candidate.tier, int(candidate.cost * COST_BANDS_PER_SECOND)) for candidate in explained.candidates]
    assert order == sorted(order)


@given(FLEETS, ASKS)
def test_a_fitting_model_on_a_server_that_is_up_comes_first(generated, asked):
    seen, lives = world(generated)
    try:
        candidates = router().decide(seen, asked, lives, NOW, explain=True).candidates
    except PenstockError:
        return
    tiers = [candidate.tier for candidate in candidates]
    assert tiers[0] == min(tiers)
    assert all(candidate.deployment.is_up == (candidate.tier < 4) for candidate in candidates)
    assert "nomic-embed-text" not in {candidate.deployment.model.name for candidate in candidates}


@given(FLEETS, st.lists(ASKS, min_size=1, max_size=5))
def test_decisions_do_not_depend_on_earlier_ones(generated, asked):
    seen, lives = world(generated)
    one = router()
    for each in asked:
        try:
            again = describe_choice(one.decide(seen, each, lives, NOW))
        except PenstockError:
            continue
        assert again == describe_choice(router().decide(seen, each, lives, NOW))


def test_the_gateway_selects_only_if_no_model_is_named():
    one, seen = router(), pair()
    assert one.should_select_model(seen, call("auto"))
    assert one.should_select_model(seen, call(""))
    assert not one.should_select_model(seen, call("gemma3:1b"))
    assert not one.should_select_model(seen, call("auto", Operation.EMBEDDING))


def test_a_single_server_does_not_select_by_complexity():
    alone = fleet(status("a", "llama3.1:8b", "gemma3:1b"))
    assert not router().should_select_model(alone, call("auto"))
    assert router().should_select_model(alone, call("auto:fast"))
    assert router().should_select_model(fleet(status("a", "gemma3:1b")), call("auto"))
    assert not router(distributed=False, model="gemma3:1b").should_select_model(pair(), call("auto"))


def test_invented_names_of_managed_models_are_not_kept():
    catalog = Catalog()
    seen, one = catalog.publish([status("a", "m")]), router()
    for number in range(5000):
        one.decide(seen, call(f"new-{number}", Operation.MANAGE, kinds=("ollama",)), catalog.loads, NOW)
    assert set(catalog.loads["a"].throughputs) == {"m"}
