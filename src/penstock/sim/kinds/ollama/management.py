"""Routes that change the library: pull, push, copy, delete, blobs."""

import hashlib
import re
from dataclasses import replace

from penstock.sim.exchange import Exchange
from penstock.sim.kinds.ollama.fields import COPY, DELETE, PULL, PUSH
from penstock.sim.kinds.ollama.go.decoder import decode_fields
from penstock.sim.kinds.ollama.go.text import quote_text
from penstock.sim.kinds.ollama.handler import Core, Handlers, OllamaError, describe_dial_error
from penstock.sim.kinds.ollama.library import GGUF_MAGIC, Blob, Installed
from penstock.sim.kinds.ollama.model_names import HOST, BadNameError, Name, parse_name, parse_pulled_reference
from penstock.sim.kinds.ollama.progress import Progress, current_time, send_progress
from penstock.sim.options import SimModel

DIGEST = re.compile(r"sha256[:-][0-9a-fA-F]{64}")
_STEPS = 10
_KNOWN_HOSTS = frozenset({HOST, "hf.co", "huggingface.co"})
_MISSING = "pull model manifest: file does not exist"


class ModelManagement(Handlers):
    """Handlers that install, copy and remove models."""

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self.routes = {
            "/api/pull": {"POST": self.guard_route(self._handle_pull)},
            "/api/push": {"POST": self.guard_route(self._handle_push)},
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
            if not name.is_valid:
                raise OllamaError(400, f"{role} {quote_text(body.get(role, ''))} is invalid")
            names.append(name)
        source, destination = names
        installed = self.core.library.find(source)
        if installed is None:
            raise OllamaError(404, f"model {quote_text(body['source'])} not found")
        self.core.library.add(replace(installed, name=destination, modified_at=current_time()))
        await exchange.reply(200)

    async def _handle_delete(self, exchange: Exchange) -> None:
        body = decode_fields(exchange.request.body, DELETE)
        asked = body.get("model") or body.get("name") or ""
        try:
            name = parse_pulled_reference(asked).name
        except BadNameError as error:
            unqualified = error.reason == "unqualified"
            raise OllamaError(400, f"name {quote_text(asked)} is invalid" if unqualified else str(error)) from None
        if not self.core.library.remove(name):
            raise OllamaError(404, f"model '{asked}' not found")
        await exchange.reply(200)

    async def _handle_blob(self, exchange: Exchange) -> None:
        digest = _read_digest(exchange)
        if to_file_name(digest) not in self.core.library.blobs:
            raise OllamaError(404, f"blob {quote_text(digest)} not found")
        await exchange.reply(200)

    async def _handle_upload(self, exchange: Exchange) -> None:
        digest, body = _read_digest(exchange), exchange.request.body
        if to_file_name(digest) in self.core.library.blobs:
            await exchange.reply(200)
            return
        actual = f"sha256:{hashlib.sha256(body).hexdigest()}"
        # A file with another digest than announced is kept under its own.
        self.core.library.blobs[to_file_name(actual)] = Blob(len(body), body.startswith(GGUF_MAGIC))
        if actual != digest:
            raise OllamaError(400, f"digest mismatch, expected {quote_text(digest)}, got {quote_text(actual)}")
        await exchange.reply(201)

    async def _handle_pull(self, exchange: Exchange) -> None:
        body = decode_fields(exchange.request.body, PULL)
        try:
            name = parse_pulled_reference(body.get("model") or body.get("name") or "").name
        except BadNameError as error:
            raise OllamaError(400, str(error) if error.reason == "conflict" else "invalid model name") from None
        steps = self.pull_model(name, insecure=body.get("insecure", False))
        await send_progress(exchange, steps, streamed=body.get("stream", True))

    async def pull_model(self, name: Name, *, insecure: bool = False) -> Progress:
        """Yield the progress of a download. Raises OllamaError if there is no such model."""
        yield {"status": "pulling manifest"}
        library, engine = self.core.library, self.core.engine
        if name.host.lower() not in _KNOWN_HOSTS:
            raise OllamaError(500, f"pull model manifest: {_describe_unreachable(name, insecure=insecure)}")
        if not SimModel.is_published(name.model):
            raise OllamaError(500, _MISSING)
        known = library.find(name)
        published = SimModel.from_name(name.display)
        installed = known or Installed.describe_model(name, published, current_time())
        for digest, total in _list_layers(installed):
            layer = {"status": f"pulling {digest[:12]}", "digest": f"sha256:{digest}", "total": total}
            if known is None and total > 10**6:
                yield layer
                for step in range(1, _STEPS):
                    await engine.sleep(self.core.options.load_seconds / _STEPS)
                    yield {**layer, "completed": total * step // _STEPS}
            yield {**layer, "completed": total}
        yield {"status": "verifying sha256 digest"}
        yield {"status": "writing manifest"}
        library.add(replace(installed, modified_at=current_time()))
        yield {"status": "success"}

    async def _handle_push(self, exchange: Exchange) -> None:
        body = decode_fields(exchange.request.body, PUSH)
        asked = body.get("model") or body.get("name") or ""
        if not asked:
            raise OllamaError(400, "model is required")
        await send_progress(exchange, self._push_model(asked), streamed=body.get("stream", True))

    async def _push_model(self, asked: str) -> Progress:
        """Yield the progress of an upload, which ends at the registry: this server has no account."""
        yield {"status": "retrieving manifest"}
        name = self.core.library.adopt_spelling(parse_name(asked))
        if not name.is_valid or self.core.library.find_exact(name) is None:
            yield {"status": "couldn't retrieve manifest"}
            if not name.is_valid:
                raise OllamaError(500, f"unqualified name: {name.full}")
            path = f"{name.host}/{name.namespace}/{name.model}/{name.tag}"
            raise OllamaError(500, f"open /models/manifests/{path}: no such file or directory")
        raise OllamaError(500, "unauthorized: access denied")


def to_file_name(digest: str) -> str:
    """Return the name of a blob's file."""
    return digest.replace(":", "-")


def _describe_unreachable(name: Name, *, insecure: bool) -> str:
    scheme = "http" if insecure else "https"
    url = f"{scheme}://{name.host}/v2/{name.namespace}/{name.model}/manifests/{name.tag}"
    port = "" if re.search(r":\d+$", name.host) else ":80" if insecure else ":443"
    return f'Get "{url}": {describe_dial_error(name.host + port)}'


def _list_layers(installed: Installed) -> list[tuple[str, int]]:
    """Return (digest, bytes) of each layer of a model; they add up to its size."""
    small = 487
    weights = installed.model.weights or hashlib.sha256(installed.digest.encode()).hexdigest()
    return [(weights, installed.model.size_bytes - small), (installed.digest, small)]


def _read_digest(exchange: Exchange) -> str:
    digest = exchange.request.path.rpartition("/")[2]
    if DIGEST.fullmatch(digest) is None:
        raise OllamaError(400, "invalid digest format")
    return digest
