"""Ollama: chat, generate, embeddings and model management."""

import re
from collections.abc import Generator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import ClassVar

import msgspec
from msgspec import Raw

from penstock.domain.content import Chat, Completion, Content, Embedding, Thinking
from penstock.domain.errors import InvalidRequest, PenstockError, Unsupported
from penstock.domain.fleet import Inventory, Model
from penstock.domain.model_names import shorten_model_name
from penstock.domain.request import Call, Operation
from penstock.domain.server_kind import KindDefaults
from penstock.engines.base import EngineRequest, FetchRequest, FetchResponse, Headers, ResponseReader, bearer_headers
from penstock.engines.continuation import append_assistant_text, extend_prompt
from penstock.engines.ollama.errors import parse_error_response, parse_stream_error
from penstock.engines.ollama.inventory import inspect_server
from penstock.engines.ollama.request import build_chat, build_completion, build_embedding
from penstock.engines.ollama.response import OllamaReader
from penstock.engines.ollama.tool_choice import is_call_forced
from penstock.engines.omitted_fields import OmittedFields
from penstock.engines.tool_call_readers import ForcedCallReader

_INFERENCE = ("chat", "generate", "embed", "embeddings")
_GENERATING_WIRES = frozenset({"ollama.chat", "ollama.generate"})
_MANAGEMENT = ("pull", "push", "create", "copy", "delete")

_decode_object = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.encode


class Ollama:
    """Ollama server, or one with the same API."""

    kind: ClassVar[str] = "ollama"
    title: ClassVar[str] = "Ollama"
    defaults: ClassVar[KindDefaults] = KindDefaults(
        port=11434,
        http_port=11434,
        api_paths=("/v1", "/api"),
        local_probe="always",
        url_variables=("OLLAMA_URL",),
    )
    native_paths: ClassVar[Mapping[str, str]] = MappingProxyType(
        {f"ollama.{action}": f"/api/{action}" for action in _INFERENCE + _MANAGEMENT}
    )
    loads_on_demand: ClassVar[bool] = True
    may_stop_early: ClassVar[bool] = True
    operations: ClassVar[frozenset[Operation]] = frozenset(
        {Operation.CHAT, Operation.COMPLETION, Operation.EMBEDDING, Operation.MANAGE}
    )

    def forward_request(self, call: Call, model: Model) -> EngineRequest:
        """Build the request with the caller's body, in which only the name of another model is replaced.

        Ollama itself resolves `M`, `library/m` and the like to `m:latest`. `server`, a field of the gateway, is removed
        from management bodies.
        """
        body = call.body
        if call.operation is Operation.MANAGE:
            if call.server:
                body = _remove_field(body, "server")
        elif not _is_same_model(call, model):
            body = _replace_model(body, model.name)
        method = "DELETE" if call.wire == "ollama.delete" else "POST"
        return EngineRequest(self.native_paths[call.wire], body, method, stream=call.stream)

    def translate_request(self, call: Call, content: Content, model: Model) -> EngineRequest:
        """Build a request in Ollama's format. Raises Unsupported."""
        if call.operation is Operation.COUNT:
            raise Unsupported(f"{self.title} cannot count tokens. Use another server.")
        omitted = OmittedFields(self.title)
        match content:
            case Chat():
                path, own = "/api/chat", build_chat(content, model, omitted)
            case Completion():
                path, own = "/api/generate", build_completion(content, omitted)
            case Embedding():
                path, own = "/api/embed", build_embedding(content, omitted)
            case _:
                raise Unsupported(f"{self.title} cannot run agent tasks. Send a conversation.")
        is_streamed = call.stream and not isinstance(content, Embedding)
        fields: dict[str, object] = {"model": model.name}
        if not isinstance(content, Embedding):
            fields["stream"] = is_streamed
        return EngineRequest(path, _encode(fields | own), stream=is_streamed, ignored=omitted.names)

    def build_continuation(self, call: Call, content: Content, model: Model, sent_text: str) -> EngineRequest | None:
        """Send the text so far as the last message, which Ollama continues, with thinking disabled."""
        if isinstance(content, Completion):
            return self.translate_request(call, extend_prompt(content, sent_text), model)
        if not isinstance(content, Chat):
            return None
        if "thinking" in model.capabilities:
            content = replace(content, thinking=Thinking(enabled=False))
        return self.translate_request(call, append_assistant_text(content, sent_text), model)

    def create_reader(self, call: Call, content: Content, outgoing: EngineRequest) -> ResponseReader:
        """Create a reader of NDJSON lines or of one object."""
        reader: ResponseReader = OllamaReader(
            self.title, parse_stream_error, streamed=outgoing.stream, may_stop_early=True
        )
        if isinstance(content, Chat) and is_call_forced(content):
            return ForcedCallReader(reader)
        return reader

    def create_wire_reader(self, call: Call) -> ResponseReader | None:
        """Create a reader of chats and generated text."""
        if call.wire not in _GENERATING_WIRES:
            return None
        return OllamaReader(self.title, parse_stream_error, streamed=call.stream)

    def parse_error_response(self, status: int, body: bytes, retry_after: float | None) -> PenstockError:
        """Return the error that an error response means."""
        return parse_error_response(status, body, retry_after, self.title)

    def inspect_server(self, known_models: tuple[Model, ...]) -> Generator[FetchRequest, FetchResponse, Inventory]:
        """Read its models, which of them are loaded, and its version."""
        return inspect_server(known_models, self.title)

    def authorization_headers(self, api_key: str) -> Headers:
        """Return a bearer token, for a proxy in front of Ollama, which has no keys itself."""
        return bearer_headers(api_key)


def _is_same_model(call: Call, model: Model) -> bool:
    """Return whether Ollama resolves the caller's name to this model."""
    if call.model == model.name:
        return True
    requested, name = shorten_model_name(call.model), shorten_model_name(model.name)
    if call.wire == "ollama.embeddings":
        return requested == name  # this endpoint compares names case-sensitively
    return requested.lower() == name.lower()


def _replace_model(body: bytes, name: str) -> bytes:
    fields = {key: value for key, value in _decode_fields(body).items() if key.lower() != "model"}
    return _encode({"model": name} | fields)


def _remove_field(body: bytes, field: str) -> bytes:
    return _encode({key: value for key, value in _decode_fields(body).items() if key.lower() != field})


def _decode_fields(body: bytes) -> dict[str, Raw]:
    """Decode the fields of a body, leniently like Ollama: invalid UTF-8 and text after the first value are ignored."""
    try:
        return _decode_object(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        body = body.decode("utf-8", "replace").encode()
    try:
        return _decode_object(body)
    except msgspec.DecodeError as error:
        trailing = re.search(r"trailing characters \(byte (\d+)\)", str(error))
        if trailing is None:
            raise InvalidRequest(f"The body is not a JSON object: {error}.") from None
    return _decode_object(body[: int(trailing[1]) - 1])  # msgspec counts from one


ENGINE = Ollama()
