"""Model lists of OpenAI-compatible servers."""

from typing import TypeVar

import msgspec

from penstock.domain.errors import UpstreamError, UpstreamGarbage
from penstock.engines.base import FetchResponse
from penstock.engines.json_fields import DECODE_ERRORS

T = TypeVar("T")
MAX_LISTING = 8 << 20  # bytes


class ModelObject(msgspec.Struct):
    """Entry of `/v1/models`; `root` and `max_model_len` are vLLM's."""

    id: str
    root: str | None = None
    parent: str | None = None
    max_model_len: int | None = None
    context_length: int | None = None
    context_window: int | None = None


class Listing(msgspec.Struct):
    """Response of `/v1/models`."""

    data: list[ModelObject]


MODEL_LISTING = msgspec.json.Decoder(Listing)


def parse_listing(fetched: FetchResponse, decoder: msgspec.json.Decoder[T], title: str, path: str) -> T:
    """Decode a listing. Raises UpstreamError when the server refused it, UpstreamGarbage when it is not valid."""
    if fetched.status in {401, 403}:
        raise UpstreamError(f"{title} rejected the gateway's key at {path}. Check the `api_key` of this server.")
    if fetched.status != 200:
        raise UpstreamError(
            f"{title} answered {path} with status {fetched.status}. Check that the server is of this kind."
        )
    if len(fetched.body) > MAX_LISTING:
        raise UpstreamGarbage(f"{title} answered {path} with more than {MAX_LISTING >> 20} MiB. Check its address.")
    try:
        return decoder.decode(fetched.body)
    except DECODE_ERRORS as error:
        shape = "a web page" if fetched.body.lstrip()[:1] == b"<" else f"invalid JSON ({error})"
        raise UpstreamGarbage(f"{title} answered {path} with {shape}. Check that the server is of this kind.") from None


def find_aliases(name: str, *others: str | None) -> tuple[str, ...]:
    """Return other names of a model: `others`, and the last folder of each name that is a path on the server."""
    aliases = [other for other in others if other]
    paths = [path for path in (name, *aliases) if path.startswith("/")]
    aliases += [folder for path in paths if (folder := path.rstrip("/").rpartition("/")[2])]
    return tuple(dict.fromkeys(alias for alias in aliases if alias != name))
