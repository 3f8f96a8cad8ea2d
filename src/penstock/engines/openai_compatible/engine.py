"""Any server that speaks OpenAI's API and is none of those known by name: MLX's, transformers', a provider's."""

from collections.abc import Generator
from typing import ClassVar

from penstock.domain.fleet import Inventory, Model, State
from penstock.domain.server_kind import KindDefaults
from penstock.engines.base import FetchRequest, FetchResponse
from penstock.engines.openai_compatible.base import OpenAIWire
from penstock.engines.openai_compatible.inventory import LISTING, ModelObject, aliases, read_listing

_UNNAMED = "it lists no models: name them under `models` of this server"
_EMPTY = f"{_UNNAMED} (mlx_lm.server lists them once the folder $HF_HOME/hub is there: make it and start again)"


class OpenAI(OpenAIWire):
    """What is common ground: fields beyond OpenAI's API are sent when asked for, and the server says what it thinks.

    Earlier thoughts are left out, which OpenAI's own API refuses.
    """

    kind: ClassVar[str] = "openai"
    title: ClassVar[str] = "OpenAI-compatible server"
    defaults: ClassVar[KindDefaults] = KindDefaults(port=80, local_probe="never")
    fields: ClassVar[frozenset[str]] = frozenset(
        {"verbosity", "logit_bias", "web_search_options", "modalities", "audio"}
    )
    keeps_thinking: ClassVar[bool] = False
    takes_files: ClassVar[bool] = True

    def inspect_server(self, known_models: tuple[Model, ...]) -> Generator[FetchRequest, FetchResponse, Inventory]:
        """What `/v1/models` lists; a server that lists nothing is up all the same."""
        fetched = yield FetchRequest("/v1/models")
        if fetched.status == 200 and not fetched.body.strip():
            return Inventory(state=State.UP, detail=_EMPTY)
        models = tuple(_model(entry) for entry in read_listing(fetched, LISTING, self.title, "/v1/models").data)
        return Inventory(models, State.UP, detail="" if models else _UNNAMED)


def _model(entry: ModelObject) -> Model:
    context = entry.max_model_len or entry.context_length or entry.context_window or 0
    return Model(entry.id, context_length=context, aliases=aliases(entry.id))


ENGINE = OpenAI()
