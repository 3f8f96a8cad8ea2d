"""Memory of what deployments refused."""

from dataclasses import replace

from penstock.domain.errors import ContextLengthExceeded, InvalidRequest, Unsupported
from penstock.domain.fleet import Deployment, Model, Server
from penstock.domain.request import Call, Operation
from penstock.domain.routing_decision import Candidate
from penstock.gateway.upstream.blame.refusal_memory import MAX_DEPLOYMENTS, TTL, RefusalMemory

CALL = Call("openai.chat", Operation.CHAT, "m", stream=False, body=b'{"messages":[]}')
WITH_TOOLS = replace(CALL, body=b'{"messages":[],"tools":[{}]}')
LONG = replace(CALL, body=b'{"messages":["' + b"x" * 5000 + b'"]}')
NO_TOOLS = Unsupported('vLLM does not support this: "auto" tool choice requires --enable-auto-tool-choice')
TOO_LONG = ContextLengthExceeded("too long")


def deployment(server: str, model: str = "m") -> Deployment:
    return Deployment(Server(server, "vllm", (f"http://{server}",)), Model(model), f"http://{server}", 1)


A, B, OTHER = Candidate(deployment("a")), Candidate(deployment("b")), Candidate(deployment("c", "other"))


def test_only_such_requests_go_to_another_server_first():
    memory = RefusalMemory()
    memory.add(WITH_TOOLS, A.deployment, NO_TOOLS, 0.0)
    assert memory.sort_candidates(WITH_TOOLS, (A, B), 1.0) == (B, A)
    assert memory.sort_candidates(CALL, (A, B), 1.0) == (A, B)


def test_bodies_as_long_as_one_that_was_refused_go_to_another_server_first():
    memory = RefusalMemory()
    memory.add(LONG, A.deployment, TOO_LONG, 0.0)
    longer = replace(LONG, body=LONG.body + b" ")
    assert memory.sort_candidates(longer, (A, B), 1.0) == (B, A)
    assert memory.sort_candidates(CALL, (A, B), 1.0) == (A, B)


def test_another_model_does_not_come_before_the_one_that_was_asked_for():
    memory = RefusalMemory()
    memory.add(LONG, A.deployment, TOO_LONG, 0.0)
    assert memory.sort_candidates(LONG, (A, OTHER, B), 1.0) == (B, A, OTHER)


def test_refusals_that_say_nothing_of_an_ability_are_not_remembered():
    memory = RefusalMemory()
    memory.add(WITH_TOOLS, A.deployment, Unsupported("cannot"), 0.0)
    memory.add(WITH_TOOLS, A.deployment, InvalidRequest("tools must be a list"), 0.0)
    assert not memory.refusals


def test_refusals_expire():
    memory = RefusalMemory()
    memory.add(LONG, A.deployment, TOO_LONG, 0.0)
    assert memory.sort_candidates(LONG, (A, B), TTL) == (A, B)
    assert not memory.refusals


def test_the_memory_is_bounded():
    memory = RefusalMemory()
    for number in range(MAX_DEPLOYMENTS + 5):
        memory.add(LONG, deployment(f"s{number}"), TOO_LONG, 0.0)
    assert len(memory.refusals) == MAX_DEPLOYMENTS
