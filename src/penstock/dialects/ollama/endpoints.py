"""Endpoints of Ollama's API: routing reads a few fields; the rest is decoded only for translation.

Error messages are those of Ollama's server: clients match them.
"""

import re
from dataclasses import dataclass
from typing import Any

import msgspec

from penstock.dialects.base import NO_FLAGS, Renderer
from penstock.dialects.go_json import decode_lenient, fold_keys, normalize_body
from penstock.dialects.json_body import pop_resume_flag
from penstock.dialects.ollama.options import parse_keep_alive
from penstock.dialects.ollama.request import decode_chat, decode_embed, decode_embeddings, decode_generate
from penstock.dialects.ollama.response import ChatRenderer, EmbeddingRenderer, render_error
from penstock.dialects.ollama.usage import is_stream_complete, parse_usage
from penstock.domain.content import Content
from penstock.domain.errors import InvalidRequest, ModelNotFound, PenstockError, Unsupported
from penstock.domain.provenance import Provenance
from penstock.domain.request import Call, Operation
from penstock.domain.response import Usage
from penstock.domain.unicode_repair import repair_unicode

_ABSENT = msgspec.Raw()
_LENIENT = frozenset({"lenient"})
# Wider than Ollama's grammar, because names of other engines' models must pass, paths and spaces included.
_find_invalid_character = re.compile(r"[^\w./:@+~=,()\[\] -]").search


class _TokenLimit(msgspec.Struct, gc=False):
    num_predict: int | float | None = None


class _ChatFields(msgspec.Struct, gc=False):
    model: str | None = None
    stream: bool | None = None
    messages: msgspec.Raw = _ABSENT
    keep_alive: msgspec.Raw = _ABSENT
    options: _TokenLimit | None = None
    resume: bool | None = None


class _GenerateFields(msgspec.Struct, gc=False):
    model: str | None = None
    stream: bool | None = None
    prompt: msgspec.Raw = _ABSENT
    suffix: msgspec.Raw = _ABSENT
    raw: bool | None = None
    keep_alive: msgspec.Raw = _ABSENT
    options: _TokenLimit | None = None
    resume: bool | None = None


class _EmbedFields(msgspec.Struct, gc=False):
    model: str | None = None
    input: msgspec.Raw = _ABSENT
    prompt: msgspec.Raw = _ABSENT


class _ManageFields(msgspec.Struct, gc=False):
    model: str | None = None
    name: str | None = None
    source: str | None = None
    destination: str | None = None
    stream: bool | None = None
    server: str | None = None
    files: msgspec.Raw = _ABSENT
    adapters: msgspec.Raw = _ABSENT


class _RoutingDecoder:
    """Decoder of routing fields. `others` are the endpoint's other fields.

    `decode_strictly` rejects keys that are neither, and thereby keys in capitals, at no cost for the usual request.
    """

    def __init__(self, fields: type[msgspec.Struct], others: str, go_type: str) -> None:
        other_fields = [(name, msgspec.Raw, _ABSENT) for name in others.split()]
        strict = msgspec.defstruct(
            f"_Strict{fields.__name__}", other_fields, bases=(fields,), forbid_unknown_fields=True, gc=False
        )
        self.decode_strictly = msgspec.json.Decoder(strict).decode
        self.go_type = go_type
        self.decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(fields)


_COMMON = "format think truncate shift logprobs top_logprobs"
_MANAGE = "insecure username password from files adapters template license system parameters messages quantize"
_chat_decoder = _RoutingDecoder(_ChatFields, f"{_COMMON} tools", "ChatRequest")
_generate_decoder = _RoutingDecoder(_GenerateFields, f"{_COMMON} system template context images", "GenerateRequest")
_embed_decoder = _RoutingDecoder(_EmbedFields, "keep_alive truncate dimensions options", "EmbedRequest")
_single_embed_decoder = _RoutingDecoder(_EmbedFields, "keep_alive options", "EmbeddingRequest")
_manage_decoders = {
    action: _RoutingDecoder(_ManageFields, _MANAGE, f"{action.capitalize()}Request")
    for action in ("pull", "push", "create", "copy", "delete")
}


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """Base of all endpoints."""

    wire: str
    paths: tuple[str, ...]
    method: str = "POST"

    def parse_usage(self, tail: bytes, streamed: bool) -> Usage | None:
        """Parse the counts of the last line or of the complete body."""
        return parse_usage(tail, streamed)

    def is_complete(self, tail: bytes) -> bool:
        """Return whether the last line is `done`, reports success, or reports an error."""
        return is_stream_complete(tail)

    def render_interruption(self, error: PenstockError) -> bytes:
        """Render the error as a line of its own.

        Servers flush complete lines, so no newline is needed first; an empty line breaks Ollama's clients in Python
        and Go.
        """
        return render_error(error) + b"\n"


class ChatEndpoint(_Endpoint):
    """`POST /api/chat`."""

    __slots__ = ()

    def parse_request(self, body: bytes, content_type: bytes) -> Call:
        """Parse the routing fields.

        Flags: `load` or `unload` for a request without messages, which only loads or unloads the model; `lenient`;
        and those of `pop_resume_flag`.
        """
        fields, body, flags = _decode_routing_fields(_chat_decoder, body)
        is_empty = _is_empty(fields.messages)
        if _is_blank(fields.model):
            raise InvalidRequest("model is required", param="model")
        stream = fields.stream is not False
        if is_empty:
            flags, stream = flags | _select_load_flag(fields.keep_alive), False
        if fields.resume is not None and not flags:
            body, flags = pop_resume_flag(body, fields.resume)
        limit = _get_token_limit(fields.options)
        model = _check_model(fields.model)
        return Call(self.wire, Operation.CHAT, model, stream, body, flags=flags, max_tokens=limit)

    def decode_content(self, call: Call) -> Content:
        """Decode the conversation, which has no messages in a request to load or unload."""
        return decode_chat(_get_strict_body(call, "ChatRequest"))

    def create_renderer(self, call: Call, provenance: Provenance) -> Renderer:
        """Create a renderer of `message`s."""
        return ChatRenderer(call, provenance, generate=False)


class GenerateEndpoint(_Endpoint):
    """`POST /api/generate`."""

    __slots__ = ()

    def parse_request(self, body: bytes, content_type: bytes) -> Call:
        """Parse the routing fields. Flags are those of a chat; a raw prompt or one with a suffix is a completion."""
        fields, body, flags = _decode_routing_fields(_generate_decoder, body)
        is_empty = _is_empty(fields.prompt)
        if _is_blank(fields.model):
            raise ModelNotFound(f"model '{fields.model or ''}' not found", param="model")
        stream = fields.stream is not False
        if is_empty:
            flags, stream = flags | _select_load_flag(fields.keep_alive), False
        operation = Operation.COMPLETION if fields.raw or not _is_empty(fields.suffix) else Operation.CHAT
        if fields.resume is not None and not flags:
            body, flags = pop_resume_flag(body, fields.resume)
        limit = _get_token_limit(fields.options)
        return Call(self.wire, operation, _check_model(fields.model), stream, body, flags=flags, max_tokens=limit)

    def decode_content(self, call: Call) -> Content:
        """Decode a conversation of one message, or the text to complete."""
        return decode_generate(_get_strict_body(call, "GenerateRequest"))

    def create_renderer(self, call: Call, provenance: Provenance) -> Renderer:
        """Create a renderer of `response`s."""
        return ChatRenderer(call, provenance, generate=True)


class EmbedEndpoint(_Endpoint):
    """`POST /api/embed`, and the older `/api/embeddings` with one `prompt`."""

    __slots__ = ()

    def parse_request(self, body: bytes, content_type: bytes) -> Call:
        """Parse the model. Flag: `load` if there is nothing to embed."""
        is_single = self.wire == "ollama.embeddings"
        fields, body, flags = _decode_routing_fields(_single_embed_decoder if is_single else _embed_decoder, body)
        if _is_blank(fields.model):
            if is_single:
                raise InvalidRequest("model is required", param="model")
            raise ModelNotFound(f"model '{fields.model or ''}' not found", param="model")
        if _is_empty(fields.prompt if is_single else fields.input):
            flags |= {"load"}
        return Call(self.wire, Operation.EMBEDDING, _check_model(fields.model), False, body, flags=flags)

    def decode_content(self, call: Call) -> Content:
        """Decode the texts."""
        if self.wire == "ollama.embeddings":
            return decode_embeddings(_get_strict_body(call, "EmbeddingRequest"))
        return decode_embed(_get_strict_body(call, "EmbedRequest"))

    def create_renderer(self, call: Call, provenance: Provenance) -> Renderer:
        """Create a renderer of vectors."""
        return EmbeddingRenderer(call, provenance, single=self.wire == "ollama.embeddings")


class ManageEndpoint(_Endpoint):
    """Pull, push, create, copy or delete a model: for Ollama servers only. `server` in the body selects one."""

    __slots__ = ()

    def parse_request(self, body: bytes, content_type: bytes) -> Call:
        """Parse the model and the server. Flag: `files` if a model is made of files that the client has sent."""
        action = self.wire.partition(".")[2]
        fields, body, flags = _decode_routing_fields(_manage_decoders[action], body)
        model = (fields.source if action == "copy" else fields.model or fields.name) or ""
        _check_managed_names(action, model, fields.destination or "")
        if action == "create" and not (_is_empty(fields.files) and _is_empty(fields.adapters)):
            flags |= {"files"}
        stream = action in ("pull", "push", "create") and fields.stream is not False
        return Call(
            self.wire,
            Operation.MANAGE,
            model.strip(),
            stream,
            body,
            kinds=("ollama",),
            server=fields.server or "",
            flags=flags,
        )

    def decode_content(self, call: Call) -> Content:
        """Raise Unsupported: other engines cannot manage models."""
        raise Unsupported(f"/api/{self.wire.partition('.')[2]} manages models of Ollama servers only")

    def create_renderer(self, call: Call, provenance: Provenance) -> Renderer:
        """Create a renderer of errors: responses are passed through."""
        return ChatRenderer(call, provenance, generate=True)


def _decode_routing_fields(routing: _RoutingDecoder, body: bytes) -> tuple[Any, bytes, frozenset[str]]:
    """Decode the routing fields. Return them, the body for the server, and the flags.

    Invalid Unicode is repaired. A body with keys in capitals is rewritten, since the server must not read another
    field than the gateway did. The flag `lenient` marks any other body that needs Ollama's lenient decoding.
    """
    if not body.isascii() or b"\\" in body:
        body = repair_unicode(body)
    try:
        return routing.decode_strictly(body), body, NO_FLAGS
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        is_unknown_field = "unknown field" in str(error)
    folded = fold_keys(body)
    try:
        if is_unknown_field and folded is body:
            return routing.decoder.decode(body), body, NO_FLAGS
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    return decode_lenient(routing.decoder, folded, routing.go_type), folded, _LENIENT


def _is_blank(name: str | None) -> bool:
    return not name or name.isspace()


def _get_strict_body(call: Call, go_type: str) -> bytes:
    return normalize_body(call.body, go_type) if "lenient" in call.flags else call.body


def _check_model(name: str) -> str:
    name = name.strip()
    if _find_invalid_character(name):
        raise InvalidRequest("invalid model name", param="model")
    return name


def _check_managed_names(action: str, model: str, destination: str) -> None:
    if action == "copy":
        for field, name in (("source", model), ("destination", destination)):
            if not name.strip() or _find_invalid_character(name):
                raise InvalidRequest(f'{field} "{name}" is invalid', param=field)
    elif not model.strip() and action in ("push", "delete"):
        raise InvalidRequest("model is required", param="model")
    elif not model.strip() or (_find_invalid_character(model) and action != "push"):
        message = f'name "{model}" is invalid' if action == "delete" else "invalid model name"
        raise InvalidRequest(message, param="model")


def _is_empty(raw: msgspec.Raw) -> bool:
    """Return whether a list or text is absent, null or empty. Long ones are not decoded."""
    return len(raw) < 64 and (not len(raw) or not msgspec.json.decode(raw))


def _select_load_flag(keep_alive: msgspec.Raw) -> frozenset[str]:
    return frozenset({"unload" if parse_keep_alive(keep_alive) == 0 else "load"})


def _get_token_limit(options: _TokenLimit | None) -> int | None:
    """Return `num_predict` if it is a limit; negative values mean none."""
    if options is None or options.num_predict is None or options.num_predict < 0:
        return None
    return int(options.num_predict)
