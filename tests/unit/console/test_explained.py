"""How questions about routing are read, and how decisions are drawn for people who ask why."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.api.routing import views as drawing
from penstock.domain.complexity import Level, RequestProfile, TaskType
from penstock.domain.errors import ClientGone, InvalidRequest, PenstockError
from penstock.domain.fleet import Deployment, Model, Server
from penstock.domain.request import Call, Operation
from penstock.domain.routing_decision import Candidate, Decision, Reason
from penstock.gateway.observers.decision_log import DecisionRecord
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
    return DecisionRecord(ctx)


candidates = st.lists(
    st.builds(
        Candidate,
        st.builds(at, st.sampled_from(["a", "b"]), st.sampled_from(["m:1b", "n:latest"])),
        costs,
        st.integers(0, 11),
        reasons.map(tuple),
        st.sampled_from(["", "warned"]),
    ),
    min_size=1,
    max_size=8,
)


@given(st.dictionaries(st.sampled_from(["text", "message", "messages", "model", "other"]), values))
def test_any_object_is_a_question_in_one_of_two_wires_or_is_refused_with_a_field(fields: dict[str, Any]) -> None:
    wire, body, refused = "", b"", None
    try:
        wire, body = drawing.parse_question(json.dumps(fields).encode())
    except InvalidRequest as error:
        refused = error.param
    if not wire:
        assert refused in fields
        return
    read = json.loads(body)
    if wire == drawing.CHAT:
        assert read == fields
        assert "messages" in fields
    else:
        assert "messages" not in fields
        assert read.get("message") == fields.get("text", fields.get("message"))
        assert "text" not in read


@given(st.binary(max_size=40))
def test_what_is_no_object_is_left_to_the_reader_of_the_wire(body: bytes) -> None:
    try:
        json.loads(body)
    except ValueError:
        assert drawing.parse_question(body) == (drawing.SERVICE, body)


@given(candidates, st.sampled_from([ASK, None]))
def test_a_decision_is_drawn_with_all_its_candidates_in_their_order(
    found: list[Candidate], ask: RequestProfile | None
) -> None:
    drawn = json.loads(drawing.render_explanation(Decision(tuple(found), "why"), CALL, ask, frozenset({"queue"})))
    assert [
        (each["server"], each["model"] + ("" if ":" in each["model"] else ":latest")) for each in drawn["candidates"]
    ] == [(one.deployment.server.name, one.deployment.model.name) for one in found]
    for each, one in zip(drawn["candidates"], found, strict=True):
        assert each["standing"].endswith("away") == (one.tier >= drawing.AWAY)
        assert each["standing"].startswith("lesser") == (one.tier % 4 >= 2)
        assert len(each["reasons"]) == len(one.reasons)
        waited = sum(reason.cost for reason in one.reasons if reason.signal == "queue")
        told = each["expected_first_token_seconds"]
        assert (told == pytest.approx(waited, abs=0.001)) if one.reasons else (told is None)
    assert (drawn["complexity_level"], drawn["task_type"]) == (("moderate", "code") if ask else (None, None))


@given(candidates, st.integers(0, 7), st.integers(0, 3))
def test_a_past_decision_tells_who_answered_and_with_which_warning(
    found: list[Candidate], place: int, attempts: int
) -> None:
    answered = found[place % len(found)]
    decision = Decision(tuple(found), "why", found[0].warning, bool(found[0].warning))
    told = drawing.render_decision(record_of(decision, answered.deployment, attempts), 0.25)
    assert (told["server"], told["time"]) == (answered.deployment.server.name, "1970-01-01T00:00:00.250")
    assert told["fallback"] == (decision.fallback or attempts > 1)
    assert len(told["candidates"]) == min(len(found), drawing.MAX_CANDIDATES)
    if answered.warning:
        assert told["warning"] == answered.warning


def test_a_decision_that_reached_nobody_tells_whom_it_meant() -> None:
    decision = Decision((Candidate(at("a", "m:1b")),), "why")
    told = drawing.render_decision(record_of(decision, attempts=0, failure=ClientGone("gone")), 1e9)
    assert (told["server"], told["model"], told["outcome"], told["requested_model"]) == (
        "a",
        "m:1b",
        "client_gone",
        None,
    )


def test_a_models_name_that_is_a_novel_is_not_kept() -> None:
    told = drawing.render_decision(record_of(Decision((Candidate(at("a", "m")),)), model="x" * 10_000), 1e9)
    assert told["requested_model"] == "x" * drawing.MAX_NAME_LENGTH
