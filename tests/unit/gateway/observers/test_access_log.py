"""A line is logged about each call whose server the gateway selected."""

import logging
from dataclasses import replace

import pytest

from penstock.domain.errors import UpstreamCut
from penstock.domain.fleet import Deployment, Model, Server
from penstock.domain.request import Call, Operation
from penstock.domain.routing_decision import Decision
from penstock.gateway.observers import AccessLog
from tests.unit.gateway.finished_contexts import finished_context

DEPLOYMENT = Deployment(Server("s", "ollama", ("http://s:1",)), Model("m"), "http://s:1", 2)
CALL = Call("openai.chat", Operation.CHAT, "m", True, b"{}")
DECISION = Decision((), "why")


@pytest.mark.parametrize(
    ("call", "decision", "attempts", "fallback"),
    [
        (replace(CALL, use_defaults=True), DECISION, 1, False),
        (CALL, replace(DECISION, level="complex"), 1, False),
        (CALL, replace(DECISION, fallback=True), 1, True),
        (CALL, DECISION, 2, True),
    ],
)
def test_a_call_that_the_gateway_routed_is_logged(caplog, call, decision, attempts, fallback):
    with caplog.at_level(logging.INFO):
        AccessLog().observe_call(
            finished_context(call=call, decision=decision, attempts=attempts, deployment=DEPLOYMENT)
        )
    assert caplog.messages == [f"Distributed routing: m @ s (fallback: {fallback})"]


@pytest.mark.parametrize(
    ("decision", "failure", "deployment"),
    [
        (DECISION, None, DEPLOYMENT),
        (replace(DECISION, level="complex"), UpstreamCut("The connection closed."), DEPLOYMENT),
        (replace(DECISION, level="complex"), None, None),
    ],
)
def test_other_calls_are_not_logged(caplog, decision, failure, deployment):
    with caplog.at_level(logging.INFO):
        AccessLog().observe_call(finished_context(call=CALL, decision=decision, failure=failure, deployment=deployment))
    assert caplog.messages == []
