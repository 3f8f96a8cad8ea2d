"""vLLM's OpenAI-compatible server."""

from collections.abc import Generator
from typing import ClassVar

import msgspec

from penstock.domain.errors import UpstreamError
from penstock.domain.fleet import Inventory, Model, State
from penstock.engines.base import Fetch, Fetched
from penstock.engines.openai_models import Listing, ModelObject, read_listing
from penstock.engines.openai_wire import OpenAIWire

_listing = msgspec.json.Decoder(Listing)


class _Version(msgspec.Struct):
    version: str


_version = msgspec.json.Decoder(_Version)


class Vllm(OpenAIWire):
    """vLLM refuses connections until it is ready; `/health` is 200 and empty while its engine lives, else 503."""

    kind: ClassVar[str] = "vllm"
    title: ClassVar[str] = "vLLM"

    def inspect(self, known: tuple[Model, ...]) -> Generator[Fetch, Fetched, Inventory]:
        """Health, models with their context and the path or repository they came from, version."""
        health = yield Fetch("/health", optional=True)
        if health.status >= 500:
            raise UpstreamError(f"vLLM's engine has died (status {health.status} at /health): restart vLLM.")
        listing = read_listing((yield Fetch("/v1/models")), _listing, self.title, "/v1/models")
        version = yield Fetch("/version", optional=True)
        return Inventory(
            models=tuple(_model(entry) for entry in listing.data),
            state=State.UP,
            version=_read_version(version),
        )


def _read_version(fetched: Fetched) -> str:
    try:
        return _version.decode(fetched.body).version if fetched.status == 200 else ""
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


def _model(entry: ModelObject) -> Model:
    aliases = (entry.root,) if entry.root and entry.root != entry.id and entry.parent is None else ()
    return Model(entry.id, context_length=entry.max_model_len or 0, loaded=True, aliases=aliases)


ENGINE = Vllm()
