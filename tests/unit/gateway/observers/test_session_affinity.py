"""The server that answered a session is remembered."""

from dataclasses import replace

import pytest

from penstock.domain.errors import UpstreamCut
from penstock.domain.fleet import Deployment, Model, Server
from penstock.domain.request import Call, Operation
from penstock.gateway.observers import SessionRecorder
from tests.unit.gateway.finished_contexts import finished_context

DEPLOYMENT = Deployment(Server("s", "ollama", ("http://s:1",)), Model("m"), "http://s:1", 2)
CALL = Call("openai.chat", Operation.CHAT, "m", True, b"{}", session=b"chat-1")


def test_the_server_that_answered_a_session_is_remembered():
    servers: dict[bytes, str] = {}
    SessionRecorder(servers.__setitem__).observe_call(finished_context(call=CALL, deployment=DEPLOYMENT))
    assert servers == {b"chat-1": "s"}


@pytest.mark.parametrize(
    ("session", "deployment", "failure"),
    [(b"", DEPLOYMENT, None), (b"chat-1", None, None), (b"chat-1", DEPLOYMENT, UpstreamCut("The connection closed."))],
)
def test_nothing_is_remembered_without_a_session_a_server_and_success(session, deployment, failure):
    servers: dict[bytes, str] = {}
    ctx = finished_context(call=replace(CALL, session=session), deployment=deployment, failure=failure)
    SessionRecorder(servers.__setitem__).observe_call(ctx)
    assert servers == {}
