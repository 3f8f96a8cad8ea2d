"""Model lists of OpenAI-compatible servers."""

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from penstock.domain.errors import ListingUnavailable, UpstreamError, UpstreamGarbage
from penstock.domain.unicode_repair import repair_unicode
from penstock.engines.base import FetchResponse
from penstock.engines.json_fields import DECODE_ERRORS, as_object, as_text
from penstock.engines.lenient_json import LenientDecoder

EntryT = TypeVar("EntryT")
MAX_LISTING = 8 << 20  # bytes


class ModelObject(msgspec.Struct):
    """Entry of `/v1/models`; `root` and `max_model_len` are vLLM's."""

    id: str = ""
    root: str | None = None
    parent: str | None = None
    max_model_len: int | None = None
    context_length: int | None = None
    context_window: int | None = None


class _Listing(msgspec.Struct):
    """Response of `/v1/models`. `models` is the list of servers that write it in Ollama's form."""

    data: list[Any] | msgspec.UnsetType | None = msgspec.UNSET
    models: list[Any] | None = None


_decode_listing: Callable[[bytes], _Listing | list[Any]] = msgspec.json.Decoder(_Listing | list[Any]).decode
decode_model_object = LenientDecoder(ModelObject).decode


def parse_model_objects(fetched: FetchResponse, title: str) -> list[ModelObject]:
    """Return the models at `/v1/models`. Raises what `parse_entries` raises."""
    entries = parse_entries(fetched, title, "/v1/models", decode_model_object)
    return list({entry.id: entry for entry in reversed(entries)}.values())[::-1]


def parse_entries(
    fetched: FetchResponse, title: str, path: str, decode_entry: Callable[[bytes], EntryT]
) -> list[EntryT]:
    """Return the entries of a model list. One that has no `id` or cannot be read is left out; a text is an id.

    Raises UpstreamError when the server refused the list, ListingUnavailable when there is none.
    """
    entries = []
    for item in _list_items(_parse_listing(fetched, title, path)):
        fields: dict[str, Any] = {"id": item} if isinstance(item, str) else as_object(item)
        name = as_text(fields.get("id")) or as_text(fields.get("name")) or as_text(fields.get("model"))
        if not name:
            continue
        with contextlib.suppress(*DECODE_ERRORS):
            entries.append(decode_entry(msgspec.json.encode(fields | {"id": name})))
    return entries


def _list_items(listing: _Listing | list[Any]) -> list[Any]:
    if isinstance(listing, list):
        return listing
    return listing.data or listing.models or []


def _parse_listing(fetched: FetchResponse, title: str, path: str) -> _Listing | list[Any]:
    if fetched.status in {401, 403}:
        raise UpstreamError(f"{title} rejected the gateway's key at {path}. Check the `api_key` of this server.")
    if fetched.status != 200:
        kind = ListingUnavailable if fetched.status in {404, 405, 410, 501} else UpstreamError
        raise kind(f"{title} answered {path} with status {fetched.status}. Check that the server is of this kind.")
    if len(fetched.body) > MAX_LISTING:
        raise UpstreamGarbage(f"{title} answered {path} with more than {MAX_LISTING >> 20} MiB. Check its address.")
    try:
        listing = _decode_listing(repair_unicode(fetched.body.removeprefix(b"\xef\xbb\xbf")))
    except DECODE_ERRORS as error:
        shape = "a web page" if fetched.body.lstrip()[:1] == b"<" else f"invalid JSON ({error})"
        raise UpstreamGarbage(f"{title} answered {path} with {shape}. Check that the server is of this kind.") from None
    if isinstance(listing, _Listing) and listing.data is msgspec.UNSET and listing.models is None:
        raise UpstreamGarbage(
            f"{title} answered {path} with an object without `data`. Check that the server is of this kind."
        )
    return listing


def find_aliases(name: str, *others: str | None) -> tuple[str, ...]:
    """Return other names of a model: `others`, and the last folder of each name that is a path on the server."""
    aliases = [other for other in others if other]
    paths = [path for path in (name, *aliases) if path.startswith("/")]
    aliases += [folder for path in paths if (folder := path.rstrip("/").rpartition("/")[2])]
    return tuple(dict.fromkeys(alias for alias in aliases if alias != name))
