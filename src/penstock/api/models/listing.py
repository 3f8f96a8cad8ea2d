"""Models that the gateway offers, each once, whatever servers have it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from penstock.api.dependencies import ApiDependencies
from penstock.api.models.views import is_embedding_model
from penstock.domain.fleet import Fleet, Model, ServerStatus
from penstock.domain.model_names import normalize_model_name
from penstock.domain.request import Operation
from penstock.engines.base import Engine

AUTO = "auto"
"""Name by which a client lets the gateway choose the model."""
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
            found.setdefault(normalize_model_name(model.name), []).append((model, status))
    return tuple(_build_listed_model(copies) for _, copies in sorted(found.items()))


def list_names(deps: ApiDependencies) -> tuple[ListedModel, ...]:
    """List what clients may ask for: the models of all servers, aliases of the settings, and `auto`."""
    models = list_models(deps.catalog.fleet, deps.engines)
    return (*models, *list_virtual_models(deps, models))


def list_virtual_models(deps: ApiDependencies, models: tuple[ListedModel, ...]) -> Iterator[ListedModel]:
    """Yield the names that are no model's own: aliases of listed models, and `auto` where there is a choice."""
    known = {normalize_model_name(listed.name) for listed in models}
    for alias, others in deps.catalog.aliases.items():
        listed = find_model(models, alias, {alias: others})
        if listed is not None and normalize_model_name(alias) not in known:
            yield ListedModel(replace(listed.model, name=alias, digest=""), listed.statuses)
    chats = [listed.model for listed in models if _can_chat(listed.model)]
    if deps.gateway.api_settings.lists_auto and len(chats) > 1 and AUTO not in known:
        yield ListedModel(
            Model(
                AUTO,
                context_length=max(model.context_length for model in chats),
                capabilities=frozenset[str]().union(*(model.capabilities for model in chats)),
                is_loaded=any(model.is_loaded for model in chats),
            ),
            (),
        )


def _can_chat(model: Model) -> bool:
    return not {"agent", "embedding"} & model.capabilities and not is_embedding_model(model)


def find_model(models: Iterable[ListedModel], name: str, aliases: Mapping[str, tuple[str, ...]]) -> ListedModel | None:
    """Find a model by its name, by an alias of the settings, or by another of the model's names."""
    models = tuple(models)
    by_name = {normalize_model_name(alias): listed for listed in models for alias in listed.model.aliases}
    by_name |= {normalize_model_name(listed.name): listed for listed in models}
    groups = [{normalize_model_name(each) for each in (alias, *others)} for alias, others in aliases.items()]
    requested = normalize_model_name(name)
    names = [requested, *sorted(other for group in groups if requested in group for other in group)]
    return next((by_name[each] for each in names if each in by_name), None)


async def find_or_probe(deps: ApiDependencies, name: str) -> ListedModel | None:
    """Find a model as `find_model` does; probe the servers when it is unknown, because it may be new."""

    def find_known() -> ListedModel | None:
        models = list_models(deps.catalog.fleet, deps.engines)
        found = find_model(models, name, deps.catalog.aliases)
        if found is None and normalize_model_name(name) == AUTO:
            return next((listed for listed in list_virtual_models(deps, models) if listed.name == AUTO), None)
        return found

    model = find_known()
    if model is None and (probes := deps.gateway.probe_for_new_models()):
        await probes
        model = find_known()
    return model


def _build_listed_model(copies: list[tuple[Model, ServerStatus]]) -> ListedModel:
    model = next((model for model, _ in copies if model.is_loaded), copies[0][0])
    context_length = max(each.context_length for each, _ in copies)
    return ListedModel(replace(model, context_length=context_length), tuple(status for _, status in copies))
