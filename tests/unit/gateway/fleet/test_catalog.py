"""The snapshot of the fleet and its index of names; the counters beside it."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from penstock.domain.fleet import Model
from penstock.gateway.fleet.catalog import MAX_THROUGHPUTS, Catalog, list_names
from tests.unit.gateway.routing.fleets import NAMES, STATUSES, fleet, status


def test_only_a_snapshot_with_changes_gets_a_new_version_and_index():
    catalog = Catalog()
    first = catalog.publish([status("a", "m")])
    again = catalog.publish([replace(status("a", Model("m", expires_at="later")), response_time=1.0, checked_at=9.0)])
    assert again.version == first.version
    assert again.deployments is first.deployments
    assert again.statuses[0].checked_at == 9.0
    loaded = catalog.publish([status("a", Model("m", is_loaded=True))])
    down = catalog.publish([status("a", Model("m", is_loaded=True), up=False)])
    more = catalog.publish([status("a", Model("m", is_loaded=True), up=False), status("b", "m")])
    assert [fleet.version for fleet in (loaded, down, more)] == [first.version + n for n in (1, 2, 3)]
    assert catalog.fleet is more


def test_live_state_outlasts_snapshots_and_is_dropped_with_an_idle_server():
    catalog = Catalog()
    catalog.publish([status("a", "m"), status("b", "m")])
    catalog.loads["a"].running = 1
    catalog.loads["b"].consecutive_failures = 3
    catalog.publish([status("b", "m")])
    assert catalog.loads["a"].running == 1
    assert catalog.loads["b"].consecutive_failures == 3
    catalog.loads["a"].running = 0
    catalog.publish([status("b", "m")])
    assert set(catalog.loads) == {"b"}


def test_a_reader_keeps_the_snapshot_that_it_took():
    catalog = Catalog()
    before = catalog.publish([status("a", "m")])
    catalog.publish([])
    assert [one.server.name for one in before.deployments["m"]] == ["a"]


def test_slots_that_a_server_reports_override_the_settings():
    reported = replace(status("a", "m", slots=2), slots=7)
    assert fleet(reported).deployments["m"][0].slots == 7
    assert fleet(status("a", "m", slots=2)).deployments["m"][0].slots == 2


@given(NAMES, st.lists(NAMES, max_size=3))
def test_names_are_lower_case_each_once_and_found_without_latest(name, aliases):
    names = list_names(Model(name, aliases=tuple(aliases)))
    assert len(set(names)) == len(names)
    for one in (name, *aliases):
        assert one.lower() in names
        assert one.lower().removesuffix(":latest") in names
    assert all(one == one.lower() for one in names)


@given(STATUSES)
def test_the_index_holds_every_model_under_its_names_and_nothing_else(statuses):
    index = fleet(*statuses).deployments
    for one in statuses:
        for model in one.models:
            assert one.server in [deployment.server for deployment in index[model.name.lower()]]
    for name, deployments in index.items():
        servers = [deployment.server.name for deployment in deployments]
        assert len(set(servers)) == len(servers), "a server stands there twice"
        ups = [deployment.is_up for deployment in deployments]
        assert ups == sorted(ups, reverse=True), "one that is down stands before one that is up"
        for deployment in deployments:
            assert name in list_names(deployment.model)
            assert deployment.slots >= 1


@given(STATUSES, st.dictionaries(NAMES, st.lists(NAMES, min_size=1, max_size=3).map(tuple), max_size=3))
def test_aliases_only_add_and_keep_servers_that_are_up_first(statuses, aliases):
    plain, linked = fleet(*statuses).deployments, fleet(*statuses, aliases=aliases).deployments
    assert set(plain) <= set(linked)
    grouped = {name.lower().removesuffix(":latest") for group in aliases.items() for name in (group[0], *group[1])}
    for name, deployments in linked.items():
        ups = [deployment.is_up for deployment in deployments]
        assert ups == sorted(ups, reverse=True)
        if name.removesuffix(":latest") not in grouped:
            assert deployments == plain[name]


@given(STATUSES)
def test_an_alias_finds_what_either_name_finds(statuses):
    linked = fleet(*statuses, aliases={"one": ("m", "llama3.1:8b")}).deployments
    plain = fleet(*statuses).deployments
    members = {*plain.get("m", ()), *plain.get("llama3.1:8b", ())}
    for name in ("one", "m", "llama3.1:8b"):
        assert set(linked.get(name, ())) == members


def test_a_name_and_its_latest_tag_are_one_model():
    deployments = fleet(status("a", "tiny:latest"), status("b", "tiny", kind="llamacpp")).deployments
    for name in ("tiny", "tiny:latest"):
        assert [deployment.server.name for deployment in deployments[name]] == ["a", "b"]
    assert "tiny:7b" not in deployments
    assert "big:7b:latest" not in fleet(status("a", "big:7b")).deployments


def test_publishing_adds_a_guess_for_each_new_model_and_keeps_what_was_learned():
    catalog = Catalog(estimate_billions=lambda model: 70.0 if model.name == "big" else 1.0)
    catalog.publish([status("a", "big", "small")])
    throughputs = catalog.loads["a"].throughputs
    assert throughputs["big"].load_seconds > throughputs["small"].load_seconds
    small = throughputs["small"]
    catalog.publish([status("a", "small", "new")])
    assert throughputs["small"] is small
    assert "new" in throughputs


def test_a_server_with_ever_new_models_does_not_grow_without_end():
    catalog = Catalog()
    catalog.publish([status("a", *(f"m{number}" for number in range(MAX_THROUGHPUTS + 10)))])
    assert len(catalog.loads["a"].throughputs) == MAX_THROUGHPUTS
