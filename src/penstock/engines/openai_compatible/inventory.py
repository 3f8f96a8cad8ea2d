"""Reads what OpenAI-compatible servers list of their models."""

from typing import TypeVar

import msgspec

from penstock.domain.errors import UpstreamError, UpstreamGarbage
from penstock.engines.base import FetchResponse

T = TypeVar("T")
MAX_LISTING = 8 << 20  # bytes


class ModelObject(msgspec.Struct):
    """An entry of `/v1/models` as any server may send it; vLLM adds `root` and `max_model_len`."""

    id: str
    root: str | None = None
    parent: str | None = None
    max_model_len: int | None = None
    context_length: int | None = None
    context_window: int | None = None


class Listing(msgspec.Struct):
    """`/v1/models`."""

    data: list[ModelObject]


LISTING = msgspec.json.Decoder(Listing)


def read_listing(fetched: FetchResponse, decoder: msgspec.json.Decoder[T], title: str, path: str) -> T:
    """The listing; raises UpstreamError when the server refuses it, UpstreamGarbage when it makes no sense."""
    if fetched.status in {401, 403}:
        raise UpstreamError(f"{title} refused the gateway's key at {path}: check the `api_key` of this server.")
    if fetched.status != 200:
        raise UpstreamError(f"{title} answered {path} with status {fetched.status}: is this the right kind of server?")
    if len(fetched.body) > MAX_LISTING:
        raise UpstreamGarbage(f"{title} answered {path} with more than {MAX_LISTING >> 20} MiB.")
    try:
        return decoder.decode(fetched.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        shape = "a web page" if fetched.body.lstrip()[:1] == b"<" else f"something that cannot be read ({error})"
        raise UpstreamGarbage(f"{title} answered {path} with {shape}: is this the right kind of server?") from None


def aliases(name: str, *others: str | None) -> tuple[str, ...]:
    """Other names that a model goes by: those given, and of a folder on the server its own name."""
    found = [other for other in others if other]
    found += [
        folder for one in (name, *found) if one.startswith("/") and (folder := one.rstrip("/").rpartition("/")[2])
    ]
    return tuple(dict.fromkeys(one for one in found if one != name))
