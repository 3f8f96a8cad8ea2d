"""Base class of engines for servers that speak OpenAI's API."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, TypeAlias

import msgspec
from msgspec import Raw

from penstock.domain.content import AgentTask, Chat, Completion, Content, Embedding, Thinking
from penstock.domain.errors import PenstockError, Unsupported
from penstock.domain.fleet import Model
from penstock.domain.request import Call, Operation
from penstock.domain.server_kind import KindDefaults
from penstock.engines.base import EngineRequest, Headers, ResponseReader, bearer_headers
from penstock.engines.continuation import extend_prompt
from penstock.engines.omitted_fields import OmittedFields
from penstock.engines.openai_compatible.errors import parse_error_response
from penstock.engines.openai_compatible.multipart import form_content_type, rename_model
from penstock.engines.openai_compatible.request import build_chat, build_completion, build_embedding
from penstock.engines.openai_compatible.response import parse_embeddings, parse_response, parse_token_count
from penstock.engines.openai_compatible.stream import BodyReader, EventStreamReader
from penstock.engines.openai_compatible.tool_arguments import fill_arguments
from penstock.engines.thinking import can_think, omit_thinking

OtherFields: TypeAlias = tuple[tuple[str, bytes], ...]

_encode = msgspec.json.Encoder().encode
_decode_object = msgspec.json.Decoder(dict[str, Raw]).decode

_GENERATING_WIRES = frozenset({"openai.chat", "openai.completions"})
_ROUTING_FIELDS = frozenset(
    {
        *("model", "stream", "stream_options", "messages", "prompt", "input", "n", "max_tokens"),
        *("max_completion_tokens", "encoding_format", "functions", "resume"),
    }
)


class OpenAICompatible:
    """Base of the engines that speak OpenAI's wire formats.

    Class variables describe a server. `option_names` maps names of Ollama's options to the server's own.
    `extra_fields` are fields beyond OpenAI's chat API that the server supports, whichever dialect they come in.
    `accepts_thinking`: the server takes earlier thinking of the model back. `accepts_files`: it takes documents.
    `has_thinking_switch`: a model of which nothing is known may be asked to think. `may_ignore_key_case`: `modeL` may
    be `model` for it, as in Go's decoder.
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
    may_stop_early: ClassVar[bool] = False
    operations: ClassVar[frozenset[Operation]] = frozenset({Operation.CHAT, Operation.COMPLETION, Operation.EMBEDDING})
    option_names: ClassVar[Mapping[str, str]] = MappingProxyType({})
    extra_fields: ClassVar[frozenset[str]] = frozenset()
    accepts_thinking: ClassVar[bool] = True
    accepts_files: ClassVar[bool] = False
    may_ignore_key_case: ClassVar[bool] = False
    has_thinking_switch: ClassVar[bool] = True

    def forward_request(self, call: Call, model: Model) -> EngineRequest:
        """Build the request with the caller's body.

        Only a differing model name is replaced in it, and empty arguments of earlier tool calls. Where the server may
        ignore the case of keys, those that differ from a routing field only in case are removed: it must not read
        another model than the gateway did.
        """
        body = call.body
        if b'"tool_calls"' in body and call.wire == "openai.chat":
            body = fill_arguments(body)
        is_renamed = call.model != model.name
        if call.wire == "openai.transcriptions":
            body = rename_model(body, model.name) if is_renamed else body
            content_type = form_content_type(body)
            return EngineRequest(self.native_paths[call.wire], body, stream=call.stream, content_type=content_type)
        if is_renamed or self.may_ignore_key_case:
            fields = _decode_object(body)
            odd_keys = [key for key in fields if _is_routing_field_in_capitals(key)]
            for key in odd_keys:
                del fields[key]
            if is_renamed:
                fields["model"] = Raw(_encode(model.name))
            if is_renamed or odd_keys:
                body = _encode(fields)
        return EngineRequest(self.native_paths[call.wire], body, stream=call.stream)

    def translate_request(self, call: Call, content: Content, model: Model) -> EngineRequest:
        """Build a request in OpenAI's format; streams always report their usage.

        `keep_alive` is left out, because these servers keep their models loaded.
        """
        fields: dict[str, Any] = {"model": model.name}
        omitted = OmittedFields(self.title)
        match content:
            case AgentTask():
                raise Unsupported(f"{self.title} cannot run agent tasks. Use an agent server or send a chat.")
            case Embedding():
                other_fields = _list_other_fields(content.options, content.keep_alive)
                fields |= self.translate_embedding(content) | self._copy_fields(other_fields, call, omitted)
                path = self.native_paths["openai.embeddings"]
                return EngineRequest(path, _encode(fields), ignored=omitted.names)
            case Chat():
                wire = "openai.chat"
                fields |= self.translate_chat(content)
                if content.thinking is not None:
                    fields |= self._apply_thinking(content.thinking, model, omitted)
            case Completion():
                wire = "openai.completions"
                fields |= self.translate_completion(content)
        other_fields = _list_other_fields(content.options + content.extra, content.keep_alive)
        fields |= self._copy_fields(other_fields, call, omitted)
        if call.operation is Operation.COUNT:
            return self.build_count_request(fields)
        if call.stream:
            fields |= {"stream": True, "stream_options": {"include_usage": True}}
        return EngineRequest(self.native_paths[wire], _encode(fields), stream=call.stream, ignored=omitted.names)

    def build_continuation(self, call: Call, content: Content, model: Model, sent_text: str) -> EngineRequest | None:
        """Extend the prompt of a completion; return None for chats, which OpenAI's API cannot continue."""
        if isinstance(content, Completion):
            return self.translate_request(call, extend_prompt(content, sent_text), model)
        return None

    def translate_chat(self, chat: Chat) -> dict[str, Any]:
        """Build the fields of a chat in this server's format."""
        return build_chat(chat, self.title, accepts_thinking=self.accepts_thinking, accepts_files=self.accepts_files)

    def translate_completion(self, completion: Completion) -> dict[str, Any]:
        """Build the fields of a completion in this server's format."""
        return build_completion(completion, self.title)

    def translate_embedding(self, embedding: Embedding) -> dict[str, Any]:
        """Build the fields of an embedding in this server's format."""
        return build_embedding(embedding)

    def translate_thinking(self, thinking: Thinking) -> dict[str, Any]:
        """Build the fields that turn thinking on or off."""
        if not thinking.enabled:
            return {"reasoning_effort": "none"}
        return {"reasoning_effort": EFFORTS.get(thinking.effort, thinking.effort)} if thinking.effort else {}

    def build_count_request(self, fields: dict[str, Any]) -> EngineRequest:
        """Build the request that counts the tokens of a chat with these fields."""
        raise Unsupported(f"{self.title} cannot count tokens. Use another server.")

    def create_reader(self, call: Call, content: Content, outgoing: EngineRequest) -> ResponseReader:
        """Create a reader of events or of one body."""
        if outgoing.stream:
            return EventStreamReader(self.title)
        if call.operation is Operation.COUNT:
            return BodyReader(self.title, parse_token_count)
        return BodyReader(self.title, parse_embeddings if isinstance(content, Embedding) else parse_response)

    def create_wire_reader(self, call: Call) -> ResponseReader | None:
        """Create a reader of chats and completions."""
        if call.wire not in _GENERATING_WIRES:
            return None
        return EventStreamReader(self.title) if call.stream else BodyReader(self.title, parse_response)

    def parse_error_response(self, status: int, body: bytes, retry_after: float | None) -> PenstockError:
        """Return the error that an error response means."""
        return parse_error_response(status, body, retry_after, self.title)

    def authorization_headers(self, api_key: str) -> Headers:
        """Return a bearer token if there is a key."""
        return bearer_headers(api_key)

    def _apply_thinking(self, thinking: Thinking, model: Model, omitted: OmittedFields) -> dict[str, Any]:
        """Return the fields for thinking, none if the model cannot think."""
        has_thinking = can_think(model)
        if has_thinking is None:
            has_thinking = self.has_thinking_switch or thinking.is_required
        if has_thinking:
            return self.translate_thinking(thinking)
        omit_thinking(thinking, model, omitted)
        return {}

    def _copy_fields(self, extra: tuple[tuple[str, bytes], ...], call: Call, omitted: OmittedFields) -> dict[str, Any]:
        """Copy fields unchanged: all of OpenAI's own wires, of other wires those that the server supports.

        Others are left out. Raises Unsupported for those that would change the response.
        """
        fields: dict[str, Any] = {}
        is_native = call.wire in self.native_paths
        for name, value in extra:
            if _is_routing_field_in_capitals(name):
                continue
            if is_native or name in self.extra_fields:
                fields[name] = Raw(value)
            elif name in self.option_names:
                fields[self.option_names[name]] = Raw(value)
            else:
                omitted.add_field(name, value)
        return fields


def _list_other_fields(fields: OtherFields, keep_alive: bytes) -> OtherFields:
    """Return the fields with `keep_alive` as one of them, if it is set."""
    return (*fields, ("keep_alive", keep_alive)) if keep_alive else fields


def _is_routing_field_in_capitals(key: str) -> bool:
    return key not in _ROUTING_FIELDS and key.casefold() in _ROUTING_FIELDS


EFFORTS: Mapping[str, str] = MappingProxyType({"max": "xhigh"})
