"""OpenAI's and Anthropic's lists of models, at the same path: Anthropic's clients send `anthropic-version`."""

import difflib
from datetime import UTC, datetime
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from penstock.api.dependencies import ApiDependencies
from penstock.api.json_responses import json_response
from penstock.api.models.listing import ListedModel, find_or_probe, list_names
from penstock.domain.errors import InvalidRequest, ModelNotFound

DEFAULT_PAGE_SIZE = 20
MAX_PAGE_SIZE = 1000


class ModelRoutes:
    """`/v1/models` and `/v1/models/{id}`; an id may contain slashes."""

    def __init__(self, deps: ApiDependencies) -> None:
        self._deps = deps

    def build_router(self) -> APIRouter:
        """Build the routes."""
        router = APIRouter(tags=["models"])
        for path, handler in (("/v1/models", self.get_models), ("/v1/models/{model:path}", self.get_model)):
            router.add_api_route(path, handler, methods=["GET"])
            router.add_api_route(path, handler, methods=["HEAD"], include_in_schema=False)
        return router

    async def get_models(self, request: Request) -> Response:
        """List the models of all servers, each once; in Anthropic's format when `anthropic-version` is sent."""
        models = self._list_models()
        if _is_anthropic_client(request):
            return json_response(_render_anthropic_page(models, request))
        return json_response(
            msgspec.json.encode({"object": "list", "data": [_render_openai_model(listed) for listed in models]})
        )

    async def get_model(self, request: Request, model: str) -> Response:
        """Return one model by its name or an alias."""
        if not model:
            return await self.get_models(request)
        listed = await find_or_probe(self._deps, model)
        if listed is None:
            near = difflib.get_close_matches(model, [listed.name for listed in self._list_models()], 3, 0.5)
            hint = f"Similar models are {', '.join(near)}." if near else "GET /v1/models lists all models."
            raise ModelNotFound(f"Model {model!r} not found. {hint}", param="model")
        return json_response(
            msgspec.json.encode(
                _render_anthropic_model(listed) if _is_anthropic_client(request) else _render_openai_model(listed)
            )
        )

    def _list_models(self) -> tuple[ListedModel, ...]:
        return list_names(self._deps)


def _is_anthropic_client(request: Request) -> bool:
    return "anthropic-version" in request.headers


def _render_openai_model(listed: ListedModel) -> dict[str, Any]:
    """Render an entry in OpenAI's format, with the context length where it is known, as many servers add it."""
    created = _parse_modified_at(listed)
    owner = listed.name.rpartition("/")[0] or "library"
    entry: dict[str, Any] = {
        "id": listed.name,
        "object": "model",
        "created": int(created.timestamp()),
        "owned_by": owner,
    }
    return entry | ({"context_length": listed.model.context_length} if listed.model.context_length else {})


def _render_anthropic_model(listed: ListedModel) -> dict[str, Any]:
    created = _parse_modified_at(listed).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"type": "model", "id": listed.name, "display_name": listed.name, "created_at": created}


def _render_anthropic_page(models: tuple[ListedModel, ...], request: Request) -> bytes:
    """Render a page as Anthropic does, by `limit`, `after_id` and `before_id`."""
    names = [listed.name for listed in models]
    limit = _parse_limit(request.query_params.get("limit"))
    after, before = request.query_params.get("after_id"), request.query_params.get("before_id")
    for name, value in (("after_id", after), ("before_id", before)):
        if value is not None and value not in names:
            raise InvalidRequest(f"{name} is not the name of a model: {value[:200]!r}.", param=name)
    if before is not None:
        rest = models[: names.index(before)]
        page, has_more = rest[-limit:], len(rest) > limit
    else:
        rest = models[names.index(after) + 1 if after is not None else 0 :]
        page, has_more = rest[:limit], len(rest) > limit
    return msgspec.json.encode(
        {
            "data": [_render_anthropic_model(listed) for listed in page],
            "has_more": has_more,
            "first_id": page[0].name if page else None,
            "last_id": page[-1].name if page else None,
        }
    )


def _parse_limit(value: str | None) -> int:
    if value is None:
        return DEFAULT_PAGE_SIZE
    if value.isascii() and value.isdigit() and 1 <= int(value[:9]) <= MAX_PAGE_SIZE:
        return int(value)
    raise InvalidRequest(f"limit must be an integer from 1 to {MAX_PAGE_SIZE}.", param="limit")


def _parse_modified_at(listed: ListedModel) -> datetime:
    """Return the time of the model's last change; the epoch where its server does not report it."""
    try:
        time = datetime.fromisoformat(listed.model.modified_at)
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return datetime.fromtimestamp(0, UTC)
