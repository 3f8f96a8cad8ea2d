"""Targets: prepared once for a server's model, however often the deployment is built."""

from typing import Any

from penstock.domain.fleet import Deployment, Fleet, Model, Server
from penstock.gateway.fleet.catalog import Catalog
from penstock.gateway.upstream.targets import Targets

SERVER = Server("agent", "victoria", ("http://agent:1",))


class CountingFactory:
    """Creates placeholders and counts them."""

    def __init__(self) -> None:
        self.created = 0

    def create(self, deployment: Deployment, load: object, breakers: object) -> object:
        self.created += 1
        return (deployment.server.name, deployment.model.name, self.created)


class FakeBreakers:
    """Knows no breaker."""

    def get(self, server: str, model: str) -> None:
        return None

    def update_from_health_checks(self, statuses: object, now: float) -> None:
        pass


def build_targets() -> tuple[Targets, CountingFactory, Catalog]:
    factory, catalog, breakers = CountingFactory(), Catalog(), FakeBreakers()
    given: Any = (factory, catalog, breakers)
    return Targets(*given, lambda: 0.0), factory, catalog


def test_deployments_that_are_built_for_each_call_share_one_target() -> None:
    targets, factory, _ = build_targets()
    found = {targets.get(Deployment(SERVER, Model("victoria"), SERVER.url, 1)) for _ in range(50)}
    assert (len(found), factory.created) == (1, 1)


def test_targets_are_prepared_again_for_a_new_fleet_and_for_new_settings() -> None:
    targets, factory, catalog = build_targets()
    deployment = Deployment(SERVER, Model("victoria"), SERVER.url, 1)
    targets.get(deployment)
    catalog.fleet = Fleet(version=7)
    targets.get(deployment)
    targets.clear()
    targets.get(deployment)
    assert factory.created == 3
