"""Read-only routes: tags, ps, show, version, status and the account (there is none)."""

import math
from datetime import datetime, timedelta
from typing import Any

from penstock.sim.exchange import Exchange
from penstock.sim.kinds.ollama.fields import SHOW
from penstock.sim.kinds.ollama.go_json import decode_fields
from penstock.sim.kinds.ollama.handler import Core, Handlers, OllamaError, well_named
from penstock.sim.kinds.ollama.library import Installed, local_time
from penstock.sim.kinds.ollama.model_names import parse_name
from penstock.sim.kinds.ollama.prompt import ContextWindow

VERSION = "0.32.15"
_FOREVER = timedelta(days=292 * 365)


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
            "/": {"GET": root, "HEAD": root},
            "/api/version": {"GET": version, "HEAD": version},
            "/api/tags": {"GET": tags, "HEAD": tags},
            "/api/ps": {"GET": self.guard_route(self._handle_ps)},
            "/api/show": {"POST": self.guard_route(self._handle_show)},
            "/api/status": {"GET": self.guard_route(self._handle_status)},
            "/api/me": {"POST": self.guard_route(self._handle_account)},
            "/api/signout": {"POST": self.guard_route(self._signed_out)},
            "/api/user/keys/*": {"DELETE": self.guard_route(self._signed_out)},
            "/api/experimental/model-recommendations": {"GET": self.guard_route(self._handle_recommendations)},
        }

    async def _handle_root(self, exchange: Exchange) -> None:
        await exchange.reply(200, b"Ollama is running", "text/plain; charset=utf-8")

    async def _handle_version(self, exchange: Exchange) -> None:
        await self.reply_json(exchange, {"version": VERSION})

    async def _handle_status(self, exchange: Exchange) -> None:
        await self.reply_json(exchange, {"cloud": {"disabled": True, "source": "env"}})

    async def _handle_account(self, exchange: Exchange) -> None:
        await self.reply_json(exchange, {"error": "account unavailable"}, 503)

    async def _signed_out(self, exchange: Exchange) -> None:
        await self.reply_json(exchange, {"error": "you are not currently signed in"}, 401)

    async def _handle_recommendations(self, exchange: Exchange) -> None:
        await self.reply_json(exchange, {"recommendations": []})

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
            name = parse_name(resident.model.name)
            installed = self.core.library.find(name) if name else None
            if installed is None:
                continue
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
        asked = (body.get("model") or body.get("name") or "").strip()
        if not asked:
            raise OllamaError(400, "model is required")
        name = well_named(asked)
        installed = self.find_installed(asked, OllamaError(404, f"model '{name.display}' not found"))
        system = body.get("system") or installed.system
        values = "\n".join(_parameter_lines(installed.parameters))
        blob = f"/models/blobs/sha256-{installed.digest}"
        modelfile = f'# Modelfile generated by "ollama show"\n# FROM {installed.model.name}\n\nFROM {blob}\n'
        response: dict[str, Any] = {"license": installed.license, "modelfile": modelfile}
        response |= {"parameters": values} if values else {}
        response["template"] = installed.template
        response |= {"system": system} if system else {}
        response["details"] = installed.build_details()
        response |= {"messages": list(installed.messages)} if installed.messages else {}
        response["model_info"] = installed.model_info(verbose=body.get("verbose", False))
        response["tensors"] = installed.list_tensors()
        response["capabilities"] = list(installed.model.capabilities)
        response["modified_at"] = local_time(installed.modified_at)
        await self.reply_json(exchange, response)


def _parameter_lines(parameters: dict[str, Any]) -> list[str]:
    lines = []
    for name, value in parameters.items():
        for one in value if isinstance(value, list) else [value]:
            response = f'"{one}"' if isinstance(one, str) else str(one)
            lines.append(f"{name:<30} {response}")
    return lines
