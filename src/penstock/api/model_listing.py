"""Which models the gateway offers, each once, wherever they are."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from penstock.domain.fleet import Fleet, Model, ServerStatus
from penstock.domain.request import Operation
from penstock.engines.base import Engine

_MODEL_OPERATIONS = frozenset({Operation.CHAT, Operation.COMPLETION, Operation.EMBEDDING})


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model, as the first server that has it describes it, and all servers that have it."""

    model: Model
    statuses: tuple[ServerStatus, ...]

    @property
    def name(self) -> str:
        """Its name as its server writes it."""
        return self.model.name


def list_models(fleet: Fleet, engines: Mapping[str, Engine]) -> tuple[ListedModel, ...]:
    """What all servers that are up can be asked by name, agents too. A model is loaded where any has it loaded."""
    found: dict[str, list[tuple[Model, ServerStatus]]] = {}
    for status in fleet.statuses:
        engine = engines.get(status.server.kind)
        if not status.is_up or engine is None or not engine.operations & _MODEL_OPERATIONS:
            continue
        for model in status.models:
            found.setdefault(normalize_name(model.name), []).append((model, status))
    return tuple(_build_listed_model(places) for _, places in sorted(found.items()))


def find_model(every: Iterable[ListedModel], name: str, aliases: Mapping[str, tuple[str, ...]]) -> ListedModel | None:
    """The offer that goes by this name, by an alias from the settings, or by another of the model's names."""
    every = tuple(every)
    named = {normalize_name(other): offer for offer in every for other in offer.model.aliases}
    named |= {normalize_name(offer.name): offer for offer in every}
    groups = [{normalize_name(one) for one in (alias, *others)} for alias, others in aliases.items()]
    wanted = normalize_name(name)
    meant = [wanted, *sorted(other for group in groups if wanted in group for other in group)]
    return next((named[other] for other in meant if other in named), None)


def normalize_name(name: str) -> str:
    """A model's name as it is compared: lower case, without `:latest`."""
    return name.lower().removesuffix(":latest")


def _build_listed_model(places: list[tuple[Model, ServerStatus]]) -> ListedModel:
    model = next((model for model, _ in places if model.is_loaded), places[0][0])
    context_length = max(each.context_length for each, _ in places)
    return ListedModel(replace(model, context_length=context_length), tuple(status for _, status in places))
