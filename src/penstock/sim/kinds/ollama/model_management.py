"""Routes that change the library: pull, push, create, copy, delete, blobs."""

import hashlib
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime
from typing import Any

from penstock.sim.exchange import Exchange
from penstock.sim.kinds.ollama.fields import COPY, CREATE, DELETE, PULL, PUSH
from penstock.sim.kinds.ollama.go_json import decode_fields
from penstock.sim.kinds.ollama.handler import BARE_JSON, NDJSON, Core, Handlers, OllamaError, encode_json
from penstock.sim.kinds.ollama.library import Installed
from penstock.sim.kinds.ollama.model_names import Name, parse_name
from penstock.sim.options import SimModel

_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
_STEPS = 10
_MISSING = "pull model manifest: file does not exist"
_ZEROS = "sha256:" + "0" * 64

Progress = AsyncGenerator[dict[str, Any], None]


class ModelManagement(Handlers):
    """Handlers that install, copy and remove models."""

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self.routes = {
            "/api/pull": {"POST": self.guard_route(self._handle_pull)},
            "/api/push": {"POST": self.guard_route(self._handle_push)},
            "/api/create": {"POST": self.guard_route(self._handle_create)},
            "/api/copy": {"POST": self.guard_route(self._handle_copy)},
            "/api/delete": {"DELETE": self.guard_route(self._handle_delete)},
            "/api/blobs/*": {
                "HEAD": self.guard_route(self._handle_blob),
                "POST": self.guard_route(self._handle_upload),
            },
        }

    async def _handle_copy(self, exchange: Exchange) -> None:
        body = decode_fields(exchange.request.body, COPY)
        names = []
        for role in ("source", "destination"):
            name = parse_name(body.get(role, ""))
            if name is None:
                raise OllamaError(400, f'{role} "{body.get(role, "")}" is invalid')
            names.append(name)
        source, destination = names
        installed = self.core.library.find(source)
        if installed is None:
            raise OllamaError(404, f'model "{body["source"]}" not found')
        self.core.library.add(replace(installed, name=destination, modified_at=_current_time()))
        await exchange.reply(200)

    async def _handle_delete(self, exchange: Exchange) -> None:
        body = decode_fields(exchange.request.body, DELETE)
        asked = body.get("model") or body.get("name") or ""
        if not asked.strip():
            raise OllamaError(400, "model is required")
        name = parse_name(asked)
        if name is None:
            raise OllamaError(400, f'name "{asked}" is invalid')
        installed = self.core.library.find(name)
        if installed is None:
            raise OllamaError(404, f"model '{asked}' not found")
        self.core.library.remove(name)
        self.core.engine.unload_model(installed.model.name)
        await exchange.reply(200)

    async def _handle_blob(self, exchange: Exchange) -> None:
        await exchange.reply(200 if _digest_of(exchange) in self.core.library.blobs else 404)

    async def _handle_upload(self, exchange: Exchange) -> None:
        digest, body = _digest_of(exchange), exchange.request.body
        if digest in self.core.library.blobs:
            await exchange.reply(200)
            return
        actual = hashlib.sha256(body).hexdigest()
        if actual != digest:
            raise OllamaError(400, f'digest mismatch, expected "sha256:{digest}", got "sha256:{actual}"')
        self.core.library.blobs[digest] = len(body)
        await exchange.reply(201)

    async def _handle_pull(self, exchange: Exchange) -> None:
        body = decode_fields(exchange.request.body, PULL)
        asked = body.get("model") or body.get("name") or ""
        name = parse_name(asked)
        if name is None:
            raise OllamaError(400, "invalid model name")
        if asked.startswith("http://") and not body.get("insecure"):
            raise OllamaError(500, "insecure protocol http")
        await self._send_progress(exchange, self._pull_steps(name), streamed=body.get("stream", True))

    async def _pull_steps(self, name: Name) -> Progress:
        yield {"status": "pulling manifest"}
        library, engine = self.core.library, self.core.engine
        installed = library.find(name)
        new = installed is None
        if installed is None:
            if not SimModel.is_published(name.model):
                raise OllamaError(500, _MISSING, bare=True)
            installed = Installed(name, SimModel.from_name(name.display), _current_time())
        for digest, total in _list_layers(installed):
            layer = {"status": f"pulling {digest[:12]}", "digest": f"sha256:{digest}", "total": total}
            if new and total > 10**6:
                yield layer
                for step in range(1, _STEPS):
                    await engine.sleep(self.core.options.load_seconds / _STEPS)
                    yield {**layer, "completed": total * step // _STEPS}
            yield {**layer, "completed": total}
        yield {"status": "verifying sha256 digest"}
        yield {"status": "writing manifest"}
        library.add(replace(installed, modified_at=_current_time()))
        yield {"status": "success"}

    async def _handle_push(self, exchange: Exchange) -> None:
        body = decode_fields(exchange.request.body, PUSH)
        asked = body.get("model") or body.get("name") or ""
        if not asked.strip():
            raise OllamaError(400, "model is required")
        await self._send_progress(exchange, self._push_steps(asked), streamed=body.get("stream", True))

    async def _push_steps(self, asked: str) -> Progress:
        yield {"status": "retrieving manifest"}
        name = parse_name(asked)
        installed = self.core.library.find(name) if name else None
        if installed is None:
            yield {"status": "couldn't retrieve manifest"}
            raise OllamaError(500, f"open /models/manifests/{asked}: no such file or directory", bare=True)
        for digest, total in _list_layers(installed):
            layer = {"status": f"pushing {digest[:12]}", "digest": f"sha256:{digest}", "total": total}
            yield layer
            yield {**layer, "completed": total}
        yield {"status": "pushing manifest"}
        yield {"status": "success"}

    async def _handle_create(self, exchange: Exchange) -> None:
        body = decode_fields(exchange.request.body, CREATE)
        name = parse_name(body.get("model") or body.get("name") or "")
        if name is None:
            raise OllamaError(400, "invalid model name")
        if not body.get("from") and not body.get("files"):
            raise OllamaError(400, "neither 'from' or 'files' was specified")
        await self._send_progress(exchange, self._create_steps(name, body), streamed=body.get("stream", True))

    async def _create_steps(self, name: Name, body: dict[str, Any]) -> Progress:
        if body.get("from"):
            base = self._find_base(body["from"])
            yield {"status": f"using existing layer sha256:{base.digest}"}
        else:
            yield {"status": "parsing GGUF"}
            base = self._from_files(name, body["files"])
        if body.get("quantize"):
            size = base.model.size_bytes
            quantizing = {
                "status": f"quantizing F16 model to {body['quantize'].upper()}",
                "digest": _ZEROS,
                "total": size,
            }
            yield {**quantizing, "completed": size}
            base = replace(base, model=replace(base.model, quantization=body["quantize"].upper()))
        licence = body.get("license")
        made = replace(
            base,
            name=name,
            modified_at=_current_time(),
            system=body.get("system", base.system),
            template=body.get("template", base.template),
            license="\n".join(licence) if isinstance(licence, list) else licence or base.license,
            parameters={**base.parameters, **body.get("parameters", {})},
            messages=tuple(body.get("messages", base.messages)),
        )
        yield {"status": f"creating new layer sha256:{made.digest}"}
        yield {"status": "writing manifest"}
        self.core.library.add(made)
        yield {"status": "success"}

    def _find_base(self, asked: str) -> Installed:
        name = parse_name(asked)
        installed = self.core.library.find(name) if name else None
        if installed is None and name is not None and SimModel.is_published(name.model):
            installed = Installed(name, SimModel.from_name(name.display), _current_time())
        if installed is None:
            raise OllamaError(500, _MISSING, bare=True)
        return installed

    def _from_files(self, name: Name, files: dict[str, Any]) -> Installed:
        size = 0
        for digest in files.values():
            match = _DIGEST.fullmatch(str(digest))
            if match is None:
                raise OllamaError(400, "invalid digest format", bare=True)
            if match[1] not in self.core.library.blobs:
                raise OllamaError(500, f"open /models/blobs/sha256-{match[1]}: no such file or directory", bare=True)
            size += self.core.library.blobs[match[1]]
        return Installed(name, replace(SimModel.from_name(name.display), size_bytes=size), _current_time())

    async def _send_progress(self, exchange: Exchange, progress: Progress, *, streamed: bool) -> None:
        """Send the progress line by line, or only its last line."""
        last: dict[str, Any] = {}
        async with aclosing(progress):
            async for line in progress:
                last = line
                if streamed:
                    if not exchange.started:
                        await exchange.start(200, NDJSON)
                    await exchange.send(encode_json(line) + b"\n")
        if streamed:
            await exchange.finish()
        else:
            await self.reply_json(exchange, last, content_type=BARE_JSON)


def _list_layers(installed: Installed) -> list[tuple[str, int]]:
    """Return (digest, bytes) of each layer of a model; they add up to its size."""
    small = 487
    weights = hashlib.sha256(installed.digest.encode()).hexdigest()
    return [(weights, installed.model.size_bytes - small), (installed.digest, small)]


def _digest_of(exchange: Exchange) -> str:
    match = _DIGEST.fullmatch(exchange.request.path.rpartition("/")[2])
    if match is None:
        raise OllamaError(400, "invalid digest format")
    return match[1]


def _current_time() -> datetime:
    return datetime.now().astimezone()
