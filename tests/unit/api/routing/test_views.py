"""Parsing of requests to explain routing, and rendering of decisions."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.api.routing import views
from penstock.domain.complexity import Level, RequestProfile, TaskType
from penstock.domain.errors import ClientGone, InvalidRequest, PenstockError
from penstock.domain.fleet import Deployment, Model, Server
from penstock.domain.request import Call, Operation
from penstock.domain.routing_decision import Candidate, Decision, Reason, Tier
from penstock.gateway.observers.decision_log import DecisionLog, DecisionRecord
from tests.unit.gateway.finished_contexts import finished_context

CALL = Call("service.routed", Operation.CHAT, "", False, b"")
ASK = RequestProfile(Level.MODERATE, TaskType.CODE, scores=(0.1, 0.2, 0.4, 0.3))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner), max_leaves=4
)
costs = st.floats(-5, 1e6)
reasons = st.lists(st.builds(Reason, st.sampled_from(["fit", "queue", "reading"]), costs, st.text()), max_size=4)


def at(server: str, model: str) -> Deployment:
    return Deployment(Server(server, "ollama", ("http://box:1",)), Model(model), "http://box:1", 2)


def record_of(
    decision: Decision,
    deployment: Deployment | None = None,
    attempts: int = 1,
    *,
    failure: PenstockError | None = None,
    model: str = "",
) -> DecisionRecord:
    ctx = finished_context(
        call=Call("openai.chat", Operation.CHAT, model, False, b""),
        decision=decision,
        deployment=deployment,
        attempts=attempts,
        failure=failure,
    )
    log = DecisionLog()
    log.observe_call(ctx)
    return log.records[0]


candidates = st.lists(
    st.builds(
        Candidate,
        st.builds(at, st.sampled_from(["a", "b"]), st.sampled_from(["m:1b", "n:latest"])),
        costs,
        st.sampled_from(Tier),
        reasons.map(tuple),
        st.sampled_from(["", "warned"]),
    ),
    min_size=1,
    max_size=8,
)


@given(st.dictionaries(st.sampled_from(["text", "message", "messages", "model", "other"]), values))
def test_any_object_is_parsed_as_one_of_two_wire_formats_or_refused_with_a_field(fields: dict[str, Any]) -> None:
    wire, body, refused = "", b"", None
    try:
        wire, body = views.parse_question(json.dumps(fields).encode())
    except InvalidRequest as error:
        refused = error.param
    if not wire:
        assert refused in fields
        return
    read = json.loads(body)
    if wire == views.CHAT:
        assert read == fields
        assert "messages" in fields
    else:
        assert "messages" not in fields
        assert read.get("message") == fields.get("text", fields.get("message"))
        assert "text" not in read


@given(st.binary(max_size=40))
def test_a_body_that_is_no_object_is_left_to_the_parser_of_the_wire_format(body: bytes) -> None:
    try:
        json.loads(body)
    except ValueError:
        assert views.parse_question(body) == (views.SERVICE, body)


@given(candidates, st.sampled_from([ASK, None]))
def test_a_decision_is_rendered_with_all_its_candidates_in_order(
    found: list[Candidate], ask: RequestProfile | None
) -> None:
    rendered = json.loads(views.render_explanation(Decision(tuple(found), "why"), CALL, ask, frozenset({"queue"})))
    assert [
        (each["server"], each["model"] + ("" if ":" in each["model"] else ":latest")) for each in rendered["candidates"]
    ] == [(one.deployment.server.name, one.deployment.model.name) for one in found]
    for each, one in zip(rendered["candidates"], found, strict=True):
        assert each["standing"].endswith("away") == (not one.tier.is_available)
        assert each["standing"].startswith("lesser") == one.tier.is_lesser
        assert len(each["reasons"]) == len(one.reasons)
        waited = sum(reason.cost for reason in one.reasons if reason.signal == "queue")
        first_token = each["expected_first_token_seconds"]
        assert (first_token == pytest.approx(waited, abs=0.001)) if one.reasons else (first_token is None)
    assert (rendered["complexity_level"], rendered["task_type"]) == (("moderate", "code") if ask else (None, None))


@given(candidates, st.integers(0, 7), st.integers(0, 3))
def test_a_recorded_decision_names_the_server_that_answered_and_its_warning(
    found: list[Candidate], index: int, attempts: int
) -> None:
    answered = found[index % len(found)]
    decision = Decision(tuple(found), "why", found[0].warning, bool(found[0].warning))
    rendered = views.render_decision(record_of(decision, answered.deployment, attempts), 0.25)
    assert (rendered["server"], rendered["time"]) == (answered.deployment.server.name, "1970-01-01T00:00:00.250")
    assert rendered["fallback"] == (decision.fallback or attempts > 1)
    assert len(rendered["candidates"]) == min(len(found), views.MAX_CANDIDATES)
    if answered.warning:
        assert rendered["warning"] == answered.warning


def test_a_decision_without_an_attempt_names_the_best_candidate() -> None:
    decision = Decision((Candidate(at("a", "m:1b")),), "why")
    rendered = views.render_decision(record_of(decision, attempts=0, failure=ClientGone("gone")), 1e9)
    assert (rendered["server"], rendered["model"], rendered["outcome"], rendered["requested_model"]) == (
        "a",
        "m:1b",
        "client_gone",
        None,
    )


def test_a_very_long_model_name_is_cut() -> None:
    rendered = views.render_decision(record_of(Decision((Candidate(at("a", "m")),)), model="x" * 10_000), 1e9)
    assert rendered["requested_model"] == "x" * views.MAX_NAME_LENGTH
