"""What all OpenAI-compatible engines have in common: how they are asked, read and told apart from a failure."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import msgspec
from msgspec import Raw

from penstock.domain.content import AgentTask, Chat, Completion, Content, Embedding, Thinking
from penstock.domain.errors import PenstockError, Unsupported
from penstock.domain.fleet import Model
from penstock.domain.request import Call, Operation
from penstock.domain.server_kind import KindDefaults
from penstock.engines.base import EngineRequest, Headers, ResponseReader, bearer_headers
from penstock.engines.continuation import prolonged
from penstock.engines.openai_compatible.errors import read_failure
from penstock.engines.openai_compatible.multipart import form_type, rename_model
from penstock.engines.openai_compatible.request import chat_fields, completion_fields, embedding_fields
from penstock.engines.openai_compatible.response import parse_answer, parse_count, parse_embeddings
from penstock.engines.openai_compatible.stream import EventReader, WholeReader

_encode = msgspec.json.Encoder().encode
_object = msgspec.json.Decoder(dict[str, Raw])

# Ollama's options on how it loads a model, and what it no longer heeds itself: another server has its own ways, and
# the answer is none the worse. `num_ctx` is among them: the context of these servers is set when they start.
_LOADING = frozenset(
    {
        *("num_ctx", "num_keep", "num_batch", "num_gpu", "main_gpu", "num_thread", "numa", "low_vram", "f16_kv"),
        *("use_mmap", "use_mlock", "vocab_only", "logits_all", "penalize_newline", "tfs_z", "draft_num_predict"),
    }
)
# Fields of other dialects that ask for what is so anyway.
_IDLE = frozenset({"raw", "truncate", "shift"})
_NOTHING = frozenset({b"null", b"false", b"{}", b"[]", b'""'})
# Ollama's options that are turned off by a number, as its clients send them.
_OFF = frozenset({("mirostat", b"0"), ("typical_p", b"1"), ("typical_p", b"1.0"), ("typical_p", b"0")})


class OpenAIWire:
    """Base of the engines that speak OpenAI's wires.

    Class variables say what differs. `options` maps names of Ollama's options to the engine's own; `fields` are the
    names beyond OpenAI's chat API that mean something to it, whichever dialect they came in; `hints` are those that
    it may pass over; `keeps_thinking` is whether it takes the model's earlier thoughts back.
    """

    kind: ClassVar[str] = ""
    title: ClassVar[str] = ""
    defaults: ClassVar[KindDefaults] = KindDefaults(port=8000, local_probe="never")
    native_paths: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "openai.chat": "/v1/chat/completions",
            "openai.completions": "/v1/completions",
            "openai.embeddings": "/v1/embeddings",
            "openai.transcriptions": "/v1/audio/transcriptions",
        }
    )
    loads_on_demand: ClassVar[bool] = False
    operations: ClassVar[frozenset[Operation]] = frozenset({Operation.CHAT, Operation.COMPLETION, Operation.EMBEDDING})
    options: ClassVar[Mapping[str, str]] = MappingProxyType({})
    fields: ClassVar[frozenset[str]] = frozenset()
    hints: ClassVar[frozenset[str]] = frozenset()
    keeps_thinking: ClassVar[bool] = True
    takes_files: ClassVar[bool] = False

    def forward_request(self, call: Call, model: Model) -> EngineRequest:
        """The body as it came; the name is changed where the server knows the model by another."""
        body = call.body
        renamed = call.model != model.name
        if call.wire == "openai.transcriptions":
            body = rename_model(body, model.name) if renamed else body
            return EngineRequest(self.native_paths[call.wire], body, stream=call.stream, content_type=form_type(body))
        if renamed:
            fields = _object.decode(body)
            fields["model"] = Raw(_encode(model.name))
            body = _encode(fields)
        return EngineRequest(self.native_paths[call.wire], body, stream=call.stream)

    def translate_request(self, call: Call, content: Content, model: Model) -> EngineRequest:
        """A request in OpenAI's words. A stream is always asked for its usage.

        `keep_alive` is left out: these servers keep their models loaded.
        """
        fields: dict[str, Any] = {"model": model.name}
        match content:
            case AgentTask():
                raise Unsupported(f"{self.title} is no agent: send this to one, or ask for a chat.")
            case Embedding():
                fields |= self.embedding(content) | self._carried(content.options, call)
                return EngineRequest(self.native_paths["openai.embeddings"], _encode(fields))
            case Chat():
                wire = "openai.chat"
                fields |= self.chat(content)
            case Completion():
                wire = "openai.completions"
                fields |= self.completion(content)
        fields |= self._carried(content.options, call) | self._carried(content.extra, call)
        if call.operation is Operation.COUNT:
            return self.count(fields)
        if call.stream:
            fields |= {"stream": True, "stream_options": {"include_usage": True}}
        return EngineRequest(self.native_paths[wire], _encode(fields), stream=call.stream)

    def build_continuation(self, call: Call, content: Content, model: Model, said: str) -> EngineRequest | None:
        """Raw text goes on anywhere; OpenAI's API has no word for going on with a turn."""
        if isinstance(content, Completion):
            return self.translate_request(call, prolonged(content, said), model)
        return None

    def chat(self, chat: Chat) -> dict[str, Any]:
        """A chat's fields in this engine's words."""
        fields = chat_fields(chat, self.title, keeps_thinking=self.keeps_thinking, takes_files=self.takes_files)
        return fields if chat.thinking is None else fields | self.thinking(chat.thinking)

    def completion(self, completion: Completion) -> dict[str, Any]:
        """A completion's fields in this engine's words."""
        return completion_fields(completion, self.title)

    def embedding(self, embedding: Embedding) -> dict[str, Any]:
        """An embedding's fields in this engine's words."""
        return embedding_fields(embedding)

    def thinking(self, thinking: Thinking) -> dict[str, Any]:
        """How this engine is told to think or not."""
        if not thinking.enabled:
            return {"reasoning_effort": "none"}
        return {"reasoning_effort": EFFORTS.get(thinking.effort, thinking.effort)} if thinking.effort else {}

    def count(self, fields: dict[str, Any]) -> EngineRequest:
        """What asks for the number of tokens that the chat with these fields has."""
        raise Unsupported(f"{self.title} cannot count tokens before it answers.")

    def create_reader(self, call: Call, content: Content, outgoing: EngineRequest) -> ResponseReader:
        """Of events or of a whole body."""
        if outgoing.stream:
            return EventReader(self.title)
        if call.operation is Operation.COUNT:
            return WholeReader(self.title, parse_count)
        return WholeReader(self.title, parse_embeddings if isinstance(content, Embedding) else parse_answer)

    def parse_error_response(self, status: int, body: bytes, retry_after: float | None) -> PenstockError:
        """The error that an error response tells of."""
        return read_failure(status, body, retry_after, self.title)

    def authorization_headers(self, api_key: str) -> Headers:
        """A bearer token where there is a key."""
        return bearer_headers(api_key)

    def _carried(self, given: tuple[tuple[str, bytes], ...], call: Call) -> dict[str, Any]:
        """What goes on as it is: everything of OpenAI's own wires, of others what this engine knows."""
        fields: dict[str, Any] = {}
        own = call.wire in self.native_paths
        for name, value in given:
            if own or name in self.fields:
                fields[name] = Raw(value)
            elif name in self.options:
                fields[self.options[name]] = Raw(value)
            elif not (
                name in _LOADING or name in _IDLE or name in self.hints or value in _NOTHING or (name, value) in _OFF
            ):
                raise Unsupported(f"{self.title} cannot do `{name}`: leave it out, or ask another server.", param=name)
        return fields


EFFORTS: Mapping[str, str] = MappingProxyType({"max": "xhigh"})
