"""Probe of an MLX API server."""

import json

import pytest

from penstock.domain.errors import UpstreamError
from penstock.domain.fleet import Inventory, Model, State
from penstock.engines.base import FetchResponse
from penstock.engines.mlx.engine import ENGINE


def inspect(health: FetchResponse, tags: FetchResponse) -> Inventory:
    looking = ENGINE.inspect_server(())
    assert next(looking).optional
    looking.send(health)
    with pytest.raises(StopIteration) as end:
        looking.send(tags)
    return end.value.value


TAGS = FetchResponse(200, b'{"models":[{"name":"qwen2.5-coder:14b","size":9,"details":{"family":"qwen2"}},"phi"]}')


@pytest.mark.parametrize(
    ("feeling", "state"),
    [("healthy", State.UP), ("degraded", State.UP), ("warning", State.DOWN), ("critical", State.DOWN)],
)
def test_two_of_its_four_health_statuses_count_as_up(feeling: str, state: State):
    inventory = inspect(
        FetchResponse(503 if state is State.DOWN else 200, json.dumps({"status": feeling}).encode()), TAGS
    )
    assert (inventory.state, inventory.detail) == (state, f"health: {feeling}")


def test_models_are_listed_even_without_a_health_endpoint():
    inventory = inspect(FetchResponse(0), TAGS)
    assert inventory.state is State.UP
    completion = frozenset({"completion"})
    assert inventory.models == (
        Model("qwen2.5-coder:14b", size=9, family="qwen2", capabilities=completion),
        Model("phi", capabilities=completion),
    )


@pytest.mark.parametrize(
    "tags",
    [FetchResponse(200, b"{}"), FetchResponse(200, b"<html>"), FetchResponse(500, b"x"), FetchResponse(404, b"")],
)
def test_a_server_without_a_model_list_is_another_kind(tags: FetchResponse):
    looking = ENGINE.inspect_server(())
    next(looking)
    looking.send(FetchResponse(200, b'{"status":"healthy"}'))
    with pytest.raises(UpstreamError):
        looking.send(tags)
