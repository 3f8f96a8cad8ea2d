"""What is there and what is loaded: tags, ps, show, version, status and the account that there is none of."""

import math
from datetime import datetime, timedelta
from typing import Any

from penstock.sim.exchange import Exchange
from penstock.sim.kinds.ollama import fields
from penstock.sim.kinds.ollama.go_json import decode
from penstock.sim.kinds.ollama.handler import Core, OllamaError, Part, well_named
from penstock.sim.kinds.ollama.library import Installed, local_time
from penstock.sim.kinds.ollama.model_names import parse
from penstock.sim.kinds.ollama.prompt import Room

VERSION = "0.32.15"
_FOREVER = timedelta(days=292 * 365)


class Listing(Part):
    """Routes that look, and change nothing."""

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        root, version, tags = self.route(self._root), self.route(self._version), self.route(self._tags)
        self.routes = {
            "/": {"GET": root, "HEAD": root},
            "/api/version": {"GET": version, "HEAD": version},
            "/api/tags": {"GET": tags, "HEAD": tags},
            "/api/ps": {"GET": self.route(self._ps)},
            "/api/show": {"POST": self.route(self._show)},
            "/api/status": {"GET": self.route(self._status)},
            "/api/me": {"POST": self.route(self._account)},
            "/api/signout": {"POST": self.route(self._signed_out)},
            "/api/user/keys/*": {"DELETE": self.route(self._signed_out)},
            "/api/experimental/model-recommendations": {"GET": self.route(self._recommendations)},
        }

    async def _root(self, exchange: Exchange) -> None:
        await exchange.reply(200, b"Ollama is running", "text/plain; charset=utf-8")

    async def _version(self, exchange: Exchange) -> None:
        await self.json(exchange, {"version": VERSION})

    async def _status(self, exchange: Exchange) -> None:
        await self.json(exchange, {"cloud": {"disabled": True, "source": "env"}})

    async def _account(self, exchange: Exchange) -> None:
        await self.json(exchange, {"error": "account unavailable"}, 503)

    async def _signed_out(self, exchange: Exchange) -> None:
        await self.json(exchange, {"error": "you are not currently signed in"}, 401)

    async def _recommendations(self, exchange: Exchange) -> None:
        await self.json(exchange, {"recommendations": []})

    async def _tags(self, exchange: Exchange) -> None:
        await self.json(exchange, {"models": [self._tag(installed) for installed in self.core.library.all()]})

    def _tag(self, installed: Installed) -> dict[str, Any]:
        model = installed.model
        return {
            "name": model.name,
            "model": model.name,
            "modified_at": local_time(installed.modified_at),
            "size": model.size_bytes,
            "digest": installed.digest,
            "details": {
                **installed.details(),
                "context_length": model.context_length,
                "embedding_length": installed.embedding_length,
            },
            "capabilities": list(model.capabilities),
        }

    async def _ps(self, exchange: Exchange) -> None:
        engine = self.core.engine
        loaded = sorted(engine.residents.values(), key=lambda resident: resident.expires_at, reverse=True)
        rows = []
        for resident in loaded:
            name = parse(resident.model.name)
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
                    "details": installed.details(),
                    "expires_at": local_time(datetime.now().astimezone() + lasting),
                    "size_vram": memory,
                    "context_length": Room.of(resident.model, num_ctx).tokens,
                }
            )
        await self.json(exchange, {"models": rows})

    async def _show(self, exchange: Exchange) -> None:
        body = decode(exchange.request.body, fields.SHOW)
        asked = (body.get("model") or body.get("name") or "").strip()
        if not asked:
            raise OllamaError(400, "model is required")
        name = well_named(asked)
        installed = self.named(asked, OllamaError(404, f"model '{name.display}' not found"))
        system = body.get("system") or installed.system
        values = "\n".join(_parameter_lines(installed.parameters))
        blob = f"/models/blobs/sha256-{installed.digest}"
        modelfile = f'# Modelfile generated by "ollama show"\n# FROM {installed.model.name}\n\nFROM {blob}\n'
        shown: dict[str, Any] = {"license": installed.license, "modelfile": modelfile}
        shown |= {"parameters": values} if values else {}
        shown["template"] = installed.template
        shown |= {"system": system} if system else {}
        shown["details"] = installed.details()
        shown |= {"messages": list(installed.messages)} if installed.messages else {}
        shown["model_info"] = installed.model_info(verbose=body.get("verbose", False))
        shown["tensors"] = installed.tensors()
        shown["capabilities"] = list(installed.model.capabilities)
        shown["modified_at"] = local_time(installed.modified_at)
        await self.json(exchange, shown)


def _parameter_lines(parameters: dict[str, Any]) -> list[str]:
    lines = []
    for name, value in parameters.items():
        for one in value if isinstance(value, list) else [value]:
            shown = f'"{one}"' if isinstance(one, str) else str(one)
            lines.append(f"{name:<30} {shown}")
    return lines
