"""Which models a client is told of: whatever it may then ask."""

import pytest

from penstock import engines
from penstock.api.model_listing import list_models
from penstock.domain.fleet import Fleet, Model, Server, ServerStatus, State

ENGINES = engines.load()


def at(kind: str, *models: str, state: State = State.UP) -> ServerStatus:
    return ServerStatus(Server(kind, kind, ("http://box:1",)), state, models=tuple(Model(name) for name in models))


@pytest.mark.parametrize("kind", sorted(ENGINES))
def test_models_of_every_kind_that_converses_are_offered(kind: str) -> None:
    assert [offer.name for offer in list_models(Fleet((at(kind, "a"),)), ENGINES)] == ["a"]


def test_one_model_on_two_servers_is_one_offer_of_both() -> None:
    (offer,) = list_models(Fleet((at("ollama", "a:latest"), at("mlx", "A"))), ENGINES)
    assert [status.server.kind for status in offer.statuses] == ["ollama", "mlx"]


def test_servers_that_are_away_offer_nothing() -> None:
    assert list_models(Fleet((at("ollama", "a", state=State.DOWN),)), ENGINES) == ()
