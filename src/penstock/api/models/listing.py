"""Models that the gateway offers, each once, whatever servers have it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from penstock.api.dependencies import ApiDependencies
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
        """The model's name as its server spells it."""
        return self.model.name


def list_models(fleet: Fleet, engines: Mapping[str, Engine]) -> tuple[ListedModel, ...]:
    """List the models and agents of all servers that are up. A model is loaded if any server has it loaded."""
    found: dict[str, list[tuple[Model, ServerStatus]]] = {}
    for status in fleet.statuses:
        engine = engines.get(status.server.kind)
        if not status.is_up or engine is None or not engine.operations & _MODEL_OPERATIONS:
            continue
        for model in status.models:
            found.setdefault(normalize_name(model.name), []).append((model, status))
    return tuple(_build_listed_model(copies) for _, copies in sorted(found.items()))


def find_model(models: Iterable[ListedModel], name: str, aliases: Mapping[str, tuple[str, ...]]) -> ListedModel | None:
    """Find a model by its name, by an alias of the settings, or by another of the model's names."""
    models = tuple(models)
    by_name = {normalize_name(alias): listed for listed in models for alias in listed.model.aliases}
    by_name |= {normalize_name(listed.name): listed for listed in models}
    groups = [{normalize_name(each) for each in (alias, *others)} for alias, others in aliases.items()]
    requested = normalize_name(name)
    names = [requested, *sorted(other for group in groups if requested in group for other in group)]
    return next((by_name[each] for each in names if each in by_name), None)


async def find_or_probe(deps: ApiDependencies, name: str) -> ListedModel | None:
    """Find a model as `find_model` does; probe the servers when it is unknown, because it may be new."""

    def find_known() -> ListedModel | None:
        return find_model(list_models(deps.catalog.fleet, deps.engines), name, deps.catalog.aliases)

    model = find_known()
    if model is None and (probes := deps.gateway.probe_for_new_models()):
        await probes
        model = find_known()
    return model


def normalize_name(name: str) -> str:
    """Return a model's name in the form used for comparison: lower case, without `:latest`."""
    return name.lower().removesuffix(":latest")


def _build_listed_model(copies: list[tuple[Model, ServerStatus]]) -> ListedModel:
    model = next((model for model, _ in copies if model.is_loaded), copies[0][0])
    context_length = max(each.context_length for each, _ in copies)
    return ListedModel(replace(model, context_length=context_length), tuple(status for _, status in copies))
