"""Any other server with OpenAI's API: `mlx_lm.server`, transformers, a hosted provider."""

from collections.abc import Generator
from typing import ClassVar

from penstock.domain.fleet import Inventory, Model, State
from penstock.domain.server_kind import KindDefaults
from penstock.engines.base import FetchRequest, FetchResponse
from penstock.engines.openai_compatible.base import OpenAICompatible
from penstock.engines.openai_compatible.inventory import ModelObject, find_aliases, parse_model_objects

_NO_MODELS = "it lists no models: name them under `models` of this server"
_EMPTY_LISTING = f"{_NO_MODELS} (mlx_lm.server needs the folder $HF_HOME/hub for that: create it and restart)"


class OpenAIServer(OpenAICompatible):
    """Server with OpenAI's API. Fields beyond the API are sent if requested; the server decides about them.

    Earlier thinking is left out, because OpenAI's own API rejects it.
    """

    kind: ClassVar[str] = "openai"
    title: ClassVar[str] = "OpenAI-compatible server"
    defaults: ClassVar[KindDefaults] = KindDefaults(port=80, local_probe="never")
    extra_fields: ClassVar[frozenset[str]] = frozenset(
        {"verbosity", "logit_bias", "web_search_options", "modalities", "audio"}
    )
    accepts_thinking: ClassVar[bool] = False
    accepts_files: ClassVar[bool] = True
    may_ignore_key_case: ClassVar[bool] = True
    has_thinking_switch: ClassVar[bool] = False

    def inspect_server(self, known_models: tuple[Model, ...]) -> Generator[FetchRequest, FetchResponse, Inventory]:
        """Read the models at `/v1/models`. A server that lists none is up, too."""
        fetched = yield FetchRequest("/v1/models")
        if fetched.status == 200 and not fetched.body.strip():
            return Inventory(state=State.UP, detail=_EMPTY_LISTING)
        models = tuple(map(_build_model, parse_model_objects(fetched, self.title)))
        return Inventory(models, State.UP, detail="" if models else _NO_MODELS)


def _build_model(entry: ModelObject) -> Model:
    context = max(0, entry.max_model_len or entry.context_length or entry.context_window or 0)
    return Model(entry.id, context_length=context, aliases=find_aliases(entry.id))


ENGINE = OpenAIServer()
