"""Ollama: chat, generate, embeddings and the management of its models."""

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
from penstock.domain.request import Call, Operation
from penstock.domain.server_kind import KindDefaults
from penstock.engines.base import EngineRequest, FetchRequest, FetchResponse, Headers, ResponseReader, bearer_headers
from penstock.engines.continuation import begun, prolonged
from penstock.engines.ollama.errors import read_failure, stream_error
from penstock.engines.ollama.inventory import look
from penstock.engines.ollama.request import chat_fields, completion_fields, embedding_fields
from penstock.engines.ollama.response import Reader as LineReader

_INFERENCE = ("chat", "generate", "embed", "embeddings")
_MANAGEMENT = ("pull", "push", "create", "copy", "delete")

_fields = msgspec.json.Decoder(dict[str, Raw])
_encode = msgspec.json.encode


class Ollama:
    """A server of ollama/ollama, or what speaks like one."""

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
        {f"ollama.{act}": f"/api/{act}" for act in _INFERENCE + _MANAGEMENT}
    )
    loads_on_demand: ClassVar[bool] = True
    operations: ClassVar[frozenset[Operation]] = frozenset(
        {Operation.CHAT, Operation.COMPLETION, Operation.EMBEDDING, Operation.MANAGE}
    )

    def forward_request(self, call: Call, model: Model) -> EngineRequest:
        """The body as it came. Ollama itself finds `M` for `m:latest`, so a new name is put in only for another model.

        Management bodies lose `server`, which is a word of the gateway's.
        """
        body = call.body
        if call.operation is Operation.MANAGE:
            if call.server:
                body = _without(body, "server")
        elif not _same(call, model):
            body = _renamed(body, model.name)
        method = "DELETE" if call.wire == "ollama.delete" else "POST"
        return EngineRequest(self.native_paths[call.wire], body, method, stream=call.stream)

    def translate_request(self, call: Call, content: Content, model: Model) -> EngineRequest:
        """The same in Ollama's words; raises Unsupported."""
        if call.operation is Operation.COUNT:
            raise Unsupported(f"{self.title} cannot count tokens.")
        fields = {"model": model.name, "stream": call.stream}
        if isinstance(content, Chat):
            return EngineRequest("/api/chat", _encode(fields | chat_fields(content, model)), stream=call.stream)
        if isinstance(content, Completion):
            return EngineRequest("/api/generate", _encode(fields | completion_fields(content)), stream=call.stream)
        if isinstance(content, Embedding):
            return EngineRequest("/api/embed", _encode({"model": model.name} | embedding_fields(content)))
        raise Unsupported(f"{self.title} takes no goals for agents: send a conversation.")

    def build_continuation(self, call: Call, content: Content, model: Model, said: str) -> EngineRequest | None:
        """A trailing turn of the assistant's is gone on with; its thoughts have been thought."""
        if isinstance(content, Completion):
            return self.translate_request(call, prolonged(content, said), model)
        if not isinstance(content, Chat):
            return None
        if "thinking" in model.capabilities:
            content = replace(content, thinking=Thinking(enabled=False))
        return self.translate_request(call, begun(content, said), model)

    def create_reader(self, call: Call, content: Content, outgoing: EngineRequest) -> ResponseReader:
        """What reads NDJSON, or one object."""
        return LineReader(self.title, stream_error, streamed=outgoing.stream)

    def parse_error_response(self, status: int, body: bytes, retry_after: float | None) -> PenstockError:
        """The error that an error response tells of."""
        return read_failure(status, body, retry_after, self.title)

    def inspect_server(self, known_models: tuple[Model, ...]) -> Generator[FetchRequest, FetchResponse, Inventory]:
        """Its models, which are loaded, its version; what older versions do not list is asked of each model once."""
        return look(known_models, self.title)

    def authorization_headers(self, api_key: str) -> Headers:
        """Ollama knows no keys, a proxy before it may."""
        return bearer_headers(api_key)


def _same(call: Call, model: Model) -> bool:
    """Whether Ollama finds the model under the name that the caller wrote."""
    if call.model == model.name:
        return True
    asked, name = _tagged(call.model), _tagged(model.name)
    if call.wire == "ollama.embeddings":
        return asked == name  # this one looks names up to the letter
    return asked.lower() == name.lower()


def _tagged(name: str) -> str:
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def _renamed(body: bytes, name: str) -> bytes:
    fields = {key: value for key, value in _members(body).items() if key.lower() != "model"}
    return _encode({"model": name} | fields)


def _without(body: bytes, field: str) -> bytes:
    return _encode({key: value for key, value in _members(body).items() if key.lower() != field})


def _members(body: bytes) -> dict[str, Raw]:
    """The body's fields; of a body that only Ollama's own leniency can read, those of its first value."""
    try:
        return _fields.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        body = body.decode("utf-8", "replace").encode()
    try:
        return _fields.decode(body)
    except msgspec.DecodeError as error:
        trailing = re.search(r"trailing characters \(byte (\d+)\)", str(error))
        if trailing is None:
            raise InvalidRequest(f"The body is not a JSON object: {error}") from None
    return _fields.decode(body[: int(trailing[1]) - 1])  # it counts the first character that trails


ENGINE = Ollama()
