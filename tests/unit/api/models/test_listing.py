"""Models offered to clients."""

import pytest

from penstock import engines
from penstock.api.models.listing import list_models
from penstock.domain.fleet import Fleet, Model, Server, ServerStatus, State

ENGINES = engines.load()


def at(kind: str, *models: str, state: State = State.UP) -> ServerStatus:
    return ServerStatus(Server(kind, kind, ("http://box:1",)), state, models=tuple(Model(name) for name in models))


@pytest.mark.parametrize("kind", sorted(ENGINES))
def test_models_of_every_kind_are_listed(kind: str) -> None:
    assert [listed.name for listed in list_models(Fleet((at(kind, "a"),)), ENGINES)] == ["a"]


def test_one_model_on_two_servers_is_listed_once_with_both() -> None:
    (listed,) = list_models(Fleet((at("ollama", "a:latest"), at("mlx", "A"))), ENGINES)
    assert [status.server.kind for status in listed.statuses] == ["ollama", "mlx"]


def test_models_of_servers_that_are_down_are_not_listed() -> None:
    assert list_models(Fleet((at("ollama", "a", state=State.DOWN),)), ENGINES) == ()
