"""Models as the service API lists them."""

import pytest

from penstock.api.models.views import build_model_entries
from penstock.domain.complexity import Level, RequestProfile, TaskType
from penstock.domain.fleet import Model
from tests.unit.gateway.routing.fleets import NOW, call, fleet, quiet, router, status


@pytest.mark.parametrize(
    ("model", "task_type", "level"),
    [
        ("qwen2.5:32b", TaskType.EXPLANATION, Level.MODERATE),
        ("qwen2.5-coder:14b", TaskType.CODE, Level.COMPLEX),
        ("gemma3:1b", TaskType.CHAT, Level.TRIVIAL),
    ],
)
def test_the_level_in_the_list_is_the_highest_that_routing_uses_the_model_for(model, task_type, level):
    server = status("a", model)
    [entry] = build_model_entries([server])
    assert entry["level"] == level.label
    for requested in Level:
        profile = RequestProfile(requested, task_type)
        decision = router().decide(fleet(server), call("auto", profile=profile), quiet, NOW)
        assert decision.candidates[0].tier.is_lesser == (requested > level)


@pytest.mark.parametrize("model", [Model("nomic-embed-text"), Model("bge-m3", capabilities=frozenset({"embedding"}))])
def test_an_embedding_model_has_no_level(model):
    [entry] = build_model_entries([status("a", model)])
    assert (entry["level"], entry["template"]) == (None, "embedding")
