"""OpenAI's and Anthropic's lists of models, at the same address: Anthropic's clients name their version in a header."""

import difflib
from datetime import UTC, datetime
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from penstock.api.dependencies import ApiDependencies
from penstock.api.json_responses import json_response
from penstock.api.model_listing import ListedModel, list_models
from penstock.domain.errors import InvalidRequest, ModelNotFound

DEFAULT_PAGE_SIZE = 20
MAX_PAGE_SIZE = 1000


class ModelRoutes:
    """`/v1/models` and `/v1/models/{id}`; an id may contain slashes."""

    def __init__(self, context: ApiDependencies) -> None:
        self._context = context

    def build_router(self) -> APIRouter:
        """The routes."""
        router = APIRouter(tags=["models"])
        router.add_api_route("/v1/models", self.get_models, methods=["GET"])
        router.add_api_route("/v1/models/{model:path}", self.get_model, methods=["GET"])
        return router

    async def get_models(self, request: Request) -> Response:
        """The models of all servers, each once; in Anthropic's form when `anthropic-version` is sent."""
        found = self._list_models()
        if _is_anthropic_client(request):
            return json_response(_render_anthropic_page(found, request))
        return json_response(
            msgspec.json.encode({"object": "list", "data": [_render_openai_model(offer) for offer in found]})
        )

    async def get_model(self, request: Request, model: str) -> Response:
        """One model by its name or another name of it."""
        if not model:
            return await self.get_models(request)
        offer = await self._context.find(model)
        if offer is None:
            near = difflib.get_close_matches(model, [offer.name for offer in self._list_models()], 3, 0.5)
            hint = f"the nearest are {', '.join(near)}" if near else "GET /v1/models lists those there are"
            raise ModelNotFound(f"model {model!r} not found: {hint}", param="model")
        return json_response(
            msgspec.json.encode(
                _render_anthropic_model(offer) if _is_anthropic_client(request) else _render_openai_model(offer)
            )
        )

    def _list_models(self) -> tuple[ListedModel, ...]:
        return list_models(self._context.catalog.fleet, self._context.engines)


def _is_anthropic_client(request: Request) -> bool:
    return "anthropic-version" in request.headers


def _render_openai_model(offer: ListedModel) -> dict[str, Any]:
    """An entry as OpenAI draws it, with the context length where it is known, as many servers add it."""
    created = _parse_modified_at(offer)
    owner = offer.name.rpartition("/")[0] or "library"
    drawn: dict[str, Any] = {
        "id": offer.name,
        "object": "model",
        "created": int(created.timestamp()),
        "owned_by": owner,
    }
    return drawn | ({"context_length": offer.model.context_length} if offer.model.context_length else {})


def _render_anthropic_model(offer: ListedModel) -> dict[str, Any]:
    created = _parse_modified_at(offer).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"type": "model", "id": offer.name, "display_name": offer.name, "created_at": created}


def _render_anthropic_page(found: tuple[ListedModel, ...], request: Request) -> bytes:
    """Anthropic's pages: `limit`, `after_id`, `before_id`."""
    names = [offer.name for offer in found]
    limit = _parse_limit(request.query_params.get("limit"))
    after, before = request.query_params.get("after_id"), request.query_params.get("before_id")
    for name, value in (("after_id", after), ("before_id", before)):
        if value is not None and value not in names:
            raise InvalidRequest(f"{name}: there is no model {value[:200]!r}", param=name)
    if before is not None:
        rest = found[: names.index(before)]
        shown, more = rest[-limit:], len(rest) > limit
    else:
        rest = found[names.index(after) + 1 if after is not None else 0 :]
        shown, more = rest[:limit], len(rest) > limit
    return msgspec.json.encode(
        {
            "data": [_render_anthropic_model(offer) for offer in shown],
            "has_more": more,
            "first_id": shown[0].name if shown else None,
            "last_id": shown[-1].name if shown else None,
        }
    )


def _parse_limit(value: str | None) -> int:
    if value is None:
        return DEFAULT_PAGE_SIZE
    if value.isascii() and value.isdigit() and 1 <= int(value[:9]) <= MAX_PAGE_SIZE:
        return int(value)
    raise InvalidRequest(f"limit: a whole number from 1 to {MAX_PAGE_SIZE} is wanted", param="limit")


def _parse_modified_at(offer: ListedModel) -> datetime:
    """When the model last changed; the epoch where its server does not tell."""
    try:
        told = datetime.fromisoformat(offer.model.modified_at)
        return told.astimezone(UTC) if told.tzinfo else told.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return datetime.fromtimestamp(0, UTC)
