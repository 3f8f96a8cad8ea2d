"""`/api/create`: a model made from another one or from uploaded files, in Ollama's order of checks and lines."""

import hashlib
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from penstock.sim.exchange import Exchange
from penstock.sim.kinds.ollama.fields import CREATE
from penstock.sim.kinds.ollama.go.decoder import BadBodyError, Slice, decode_fields, decode_value
from penstock.sim.kinds.ollama.go.template import find_template_error
from penstock.sim.kinds.ollama.handler import Core, Handlers, OllamaError
from penstock.sim.kinds.ollama.library import Installed
from penstock.sim.kinds.ollama.management import DIGEST, ModelManagement, to_file_name
from penstock.sim.kinds.ollama.model_names import BadNameError, Name, parse_name, parse_reference
from penstock.sim.kinds.ollama.progress import Progress, current_time, send_progress
from penstock.sim.options import SimModel

_ZEROS = "sha256:" + "0" * 64
_UNQUANTIZED = frozenset({"F16", "BF16", "F32"})
_QUANTIZATIONS = ("F32", "F16", "BF16", "Q8_0", "Q4_K_S", "Q4_K_M")
_LICENSES = Slice("string", "[]string")


class Creation(Handlers):
    """The route that creates a model."""

    def __init__(self, core: Core, management: ModelManagement) -> None:
        super().__init__(core)
        self._management = management
        self.routes = {"/api/create": {"POST": self.guard_route(self._handle_create)}}

    async def _handle_create(self, exchange: Exchange) -> None:
        body = decode_fields(exchange.request.body, CREATE)
        for kind in ("files", "draft_files"):
            _check_files(body.get(kind, {}))
        if body.get("draft_quantize") and not body.get("draft_files"):
            raise OllamaError(400, "--draft-quantize requires a DRAFT model")
        if not all(body.get("adapters", {}).values()):
            raise OllamaError(400, "invalid digest format")
        name = parse_name(body.get("model") or body.get("name") or "")
        if not name.is_valid:
            raise OllamaError(400, "invalid model name")
        await send_progress(exchange, self._create_model(name, body), streamed=body.get("stream", True))

    async def _create_model(self, name: Name, body: dict[str, Any]) -> Progress:
        if body.get("from"):
            reference = _read_base(body["from"])
            async with aclosing(self._pull_missing(reference)) as lines:
                async for line in lines:
                    yield line
            base = self._find_base(reference)
        elif "files" in body:
            async with aclosing(self._convert_files(body["files"])) as lines:
                async for line in lines:
                    yield line
            base = self._read_files(name, body["files"])
        else:
            raise OllamaError(400, "neither 'from' or 'files' was specified")
        quantization = (body.get("quantize") or body.get("quantization") or "").upper()
        if quantization:
            quantized_from = base.model.quantization
            base = _quantize_model(base, quantization)
            size = base.model.size_bytes
            yield {
                "status": f"quantizing {quantized_from} model to {quantization}",
                "digest": _ZEROS,
                "total": size,
                "completed": size,
            }
        made = replace(base, name=name, modified_at=current_time(), **_read_changes(body, base))
        for digest in made.layers:
            status = "using existing layer" if digest in self._list_layers(base) else "creating new layer"
            yield {"status": f"{status} sha256:{digest}"}
        yield {"status": "writing manifest"}
        self.core.library.add(made)
        yield {"status": "success"}

    async def _pull_missing(self, name: Name) -> Progress:
        """Yield the progress of the download of a base that is not installed in just this spelling."""
        if self.core.library.find_exact(name) is None:
            async with aclosing(self._management.pull_model(name)) as lines:
                async for line in lines:
                    if line["status"] != "success":
                        yield line

    def _find_base(self, name: Name) -> Installed:
        installed = self.core.library.find(name)
        if installed is None:
            raise OllamaError(500, "pull model manifest: file does not exist")
        return replace(installed, parent=name.display)

    def _list_layers(self, base: Installed) -> set[str]:
        known = {digest for installed in self.core.library.all() for digest in installed.layers}
        return {*known, *(base.layers if base.parent else ())}

    async def _convert_files(self, files: dict[str, str]) -> Progress:
        """Yield the progress of a conversion. Raises OllamaError for files that are no model."""
        kind = self._detect_type(files)
        if not kind:
            raise OllamaError(400, "unknown type")
        if kind == "safetensors":
            yield {"status": "converting model"}
        for _, digest in sorted(files.items()):
            if kind == "gguf":
                yield {"status": "parsing GGUF"}
            if DIGEST.fullmatch(digest) is None:
                raise OllamaError(500, "invalid digest format")
            blob = self.core.library.blobs.get(to_file_name(digest))
            if blob is None:
                raise OllamaError(500, f"open /models/blobs/{to_file_name(digest)}: no such file or directory")
            if kind == "gguf" and not blob.is_gguf:
                raise OllamaError(400, "supplied file was not in GGUF format")
        yield {"status": "verifying conversion"}

    def _detect_type(self, files: dict[str, str]) -> str:
        for name, digest in files.items():
            for ending in ("safetensors", "gguf"):
                if name.endswith(f".{ending}"):
                    return ending
            blob = self.core.library.blobs.get(to_file_name(digest))
            if blob is None:
                return ""
            if blob.is_gguf:
                return "gguf"
        return ""

    def _read_files(self, name: Name, files: dict[str, str]) -> Installed:
        names = sorted(to_file_name(digest) for digest in files.values())
        weights = hashlib.sha256("".join(names).encode()).hexdigest()
        size = sum(self.core.library.blobs[file_name].size for file_name in names)
        model = SimModel.from_name(name.display)
        model = replace(model, size_bytes=size, weights=weights, template="native", license="", stop=())
        return Installed.describe_model(name, model, current_time())


def _check_files(files: dict[str, str]) -> None:
    for path, digest in files.items():
        parts = path.split("/")
        if path != "." and ("" in parts or "." in parts or ".." in parts):
            raise OllamaError(400, "file path must be relative")
        if not digest:
            raise OllamaError(400, "invalid digest format")


def _read_base(text: str) -> Name:
    try:
        return parse_reference(text).name
    except BadNameError:
        raise OllamaError(400, "invalid model name") from None


def _quantize_model(base: Installed, quantization: str) -> Installed:
    if quantization not in _QUANTIZATIONS:
        supported = ", ".join(_QUANTIZATIONS)
        raise OllamaError(500, f"unsupported quantization type {quantization} - supported types are {supported}")
    if base.model.quantization not in _UNQUANTIZED:
        raise OllamaError(500, "quantization is only supported for F16, BF16 and F32 models")
    weights = hashlib.sha256(f"{base.model.weights} {quantization}".encode()).hexdigest()
    return replace(base, model=replace(base.model, quantization=quantization, weights=weights))


def _read_changes(body: dict[str, Any], base: Installed) -> dict[str, Any]:
    """Return the fields of the new model that differ from its base. Raises OllamaError."""
    if problem := find_template_error(body.get("template", "")):
        raise OllamaError(400, f"template error: {problem}")
    return {
        "system": body.get("system") or base.system,
        "template": body.get("template") or base.template,
        "renderer": body.get("renderer") or base.renderer,
        "license": _read_license(body.get("license")) or base.license,
        "parameters": {**base.parameters, **body.get("parameters", {})},
        "messages": tuple(body.get("messages") or base.messages),
    }


def _read_license(given: Any) -> str:
    if given is None or isinstance(given, str):
        return given or ""
    try:
        return "\n".join(decode_value(given, _LICENSES))
    except BadBodyError as error:
        raise OllamaError(500, str(error)) from None
