"""Read-only routes: tags, ps, show, version, status and the account (there is none)."""

import math
from datetime import datetime, timedelta
from typing import Any

from penstock.sim.exchange import Exchange
from penstock.sim.kinds.ollama.fields import SHOW
from penstock.sim.kinds.ollama.go.decoder import decode_fields
from penstock.sim.kinds.ollama.go.text import quote_text
from penstock.sim.kinds.ollama.handler import Core, Handlers, OllamaError, unreachable_cloud
from penstock.sim.kinds.ollama.library import Installed, local_time
from penstock.sim.kinds.ollama.prompt import ContextWindow

VERSION = "0.33.0"
_FOREVER = timedelta(days=292 * 365)
_COPILOT = "GitHubCopilotChat/"
_RECOMMENDATIONS = (
    {
        "model": "qwen3.5:cloud",
        "description": "Reasoning, coding, and agentic tool use with vision",
        "context_length": 262144,
        "max_output_tokens": 32768,
    },
    {
        "model": "qwen3.5",
        "description": "Reasoning, coding, and visual understanding locally",
        "vram_bytes": 15 * 2**30,
    },
)


class Listing(Handlers):
    """Routes that change nothing."""

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        root, version, tags = (
            self.guard_route(self._handle_root),
            self.guard_route(self._handle_version),
            self.guard_route(self._handle_tags),
        )
        self.routes = {
            "/": {"HEAD": root, "GET": root},
            "/api/version": {"HEAD": version, "GET": version},
            "/api/tags": {"HEAD": tags, "GET": tags},
            "/api/ps": {"GET": self.guard_route(self._handle_ps)},
            "/api/show": {"POST": self.guard_route(self._handle_show)},
            "/api/status": {"GET": self.guard_route(self._handle_status)},
            "/api/me": {"POST": self.guard_route(self._handle_account)},
            "/api/signout": {"POST": self.guard_route(self._handle_signout)},
            "/api/user/keys/*": {"DELETE": self.guard_route(self._handle_signout)},
            "/api/experimental/web_search": {"POST": self.guard_route(self._handle_web)},
            "/api/experimental/web_fetch": {"POST": self.guard_route(self._handle_web)},
            "/api/experimental/model-recommendations": {"GET": self.guard_route(self._handle_recommendations)},
        }

    async def _handle_root(self, exchange: Exchange) -> None:
        await exchange.reply(200, b"Ollama is running", "text/plain; charset=utf-8")

    async def _handle_version(self, exchange: Exchange) -> None:
        await self.reply_json(exchange, {"version": VERSION})

    async def _handle_status(self, exchange: Exchange) -> None:
        await self.reply_json(exchange, {"cloud": {"disabled": False, "source": "none"}})

    async def _handle_account(self, exchange: Exchange) -> None:
        await self.reply_json(exchange, {"error": "account unavailable"}, 503)

    async def _handle_signout(self, exchange: Exchange) -> None:
        await self.reply_json(exchange, {"error": "there was an error signing out"}, 500)

    async def _handle_web(self, exchange: Exchange) -> None:
        if not exchange.request.body.strip():
            raise OllamaError(400, "missing request body")
        raise unreachable_cloud(exchange.request.path.replace("/experimental", ""))

    async def _handle_recommendations(self, exchange: Exchange) -> None:
        await self.reply_json(exchange, {"recommendations": list(_RECOMMENDATIONS)})

    async def _handle_tags(self, exchange: Exchange) -> None:
        await self.reply_json(
            exchange, {"models": [self._build_tag(installed) for installed in self.core.library.all()]}
        )

    def _build_tag(self, installed: Installed) -> dict[str, Any]:
        model = installed.model
        return {
            "name": model.name,
            "model": model.name,
            "modified_at": local_time(installed.modified_at),
            "size": model.size_bytes,
            "digest": installed.digest,
            "details": {
                **installed.build_details(),
                "context_length": model.context_length,
                "embedding_length": installed.embedding_length,
            },
            "capabilities": list(model.capabilities),
        }

    async def _handle_ps(self, exchange: Exchange) -> None:
        engine = self.core.engine
        loaded = sorted(engine.residents.values(), key=lambda resident: resident.expires_at, reverse=True)
        rows = []
        for resident in loaded:
            installed = self.core.described[resident.model.name]
            remaining = (resident.expires_at - engine.now()) / self.core.options.clock_scale
            lasting = _FOREVER if remaining == math.inf else timedelta(seconds=remaining)
            memory = resident.model.size_bytes * 6 // 5
            num_ctx = resident.setup[0] if isinstance(resident.setup, tuple) else None
            rows.append(
                {
                    "name": resident.model.name,
                    "model": resident.model.name,
                    "size": memory,
                    "digest": installed.digest,
                    "details": installed.build_details(),
                    "expires_at": local_time(datetime.now().astimezone() + lasting),
                    "size_vram": memory,
                    "context_length": ContextWindow.for_model(resident.model, num_ctx).tokens,
                }
            )
        await self.reply_json(exchange, {"models": rows})

    async def _handle_show(self, exchange: Exchange) -> None:
        body = decode_fields(exchange.request.body, SHOW)
        asked = body.get("model") or body.get("name") or ""
        unnamed = OllamaError(400, "model is required")
        reference = self.read_reference(asked, unnamed)
        if reference.source == "cloud":
            raise unreachable_cloud(exchange.request.path)
        name = self.core.library.adopt_spelling(reference.name)
        installed = self.core.library.find_exact(name)
        if installed is None:
            raise OllamaError(404, f"model '{name.display}' not found")
        response = describe_model(installed, system=body.get("system", ""), verbose=body.get("verbose", False))
        if exchange.request.headers.get("user-agent", "").startswith(_COPILOT):
            info = {**response["model_info"], "general.basename": asked}
            response["model_info"] = dict(sorted(info.items()))
        await self.reply_json(exchange, response)


def describe_model(installed: Installed, *, system: str, verbose: bool) -> dict[str, Any]:
    """Build the answer of `/api/show`; `system` replaces the model's own."""
    values = "\n".join(f"{name:<30} {_format_value(value)}" for name, value in installed.list_parameters())
    system = system or installed.system
    response: dict[str, Any] = {"license": installed.license} if installed.license else {}
    response["modelfile"] = installed.build_modelfile()
    response |= {"parameters": values} if values else {}
    response["template"] = installed.display_template
    response |= {"system": system} if system else {}
    response["details"] = installed.build_details()
    messages = [
        {"role": message.get("role", ""), "content": message.get("content", "")} for message in installed.messages
    ]
    response |= {"messages": messages} if messages else {}
    response["model_info"] = installed.model_info(verbose=verbose)
    response["tensors"] = installed.list_tensors()
    response["capabilities"] = list(installed.model.capabilities)
    response["modified_at"] = local_time(installed.modified_at)
    return response


def _format_value(value: Any) -> str:
    """Format a parameter as Go's `%#v` does."""
    if isinstance(value, bool):
        return str(value).lower()
    return quote_text(value) if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)
