"""Ollama's own API, as its clients speak it: chat, generate, embed, and the management calls that pass through.

What only lists (`tags`, `ps`, `show`, `version`) is no request for inference; `ollama_lists` draws it.
"""

import re
from dataclasses import dataclass
from typing import Any

import msgspec

from penstock.dialects.base import Dialect, Renderer
from penstock.dialects.go_json import relaxed, strict
from penstock.dialects.json_body import pop_resume_flag
from penstock.dialects.ollama import request
from penstock.dialects.ollama.response import JSON, AnswerRenderer, VectorRenderer, render_error
from penstock.domain.content import Content
from penstock.domain.errors import InvalidRequest, ModelNotFound, PenstockError, Unsupported
from penstock.domain.request import Call, Operation
from penstock.domain.response import Usage
from penstock.domain.response_metadata import Provenance

_NONE = msgspec.Raw()
_NO_FLAGS: frozenset[str] = frozenset()
_LENIENT = frozenset({"lenient"})
# Wider than Ollama's grammar: names of other engines' models go through here, paths and blanks included.
_NO_NAME = re.compile(r"[^\w./:@+~=,()\[\] -]").search
_COUNT = re.compile(rb'"(total_duration|load_duration|(?:prompt_)?eval_(?:count|duration))":(\d+)')


class _Limit(msgspec.Struct, gc=False):
    num_predict: int | float | None = None


class _ChatHead(msgspec.Struct, gc=False):
    model: str | None = None
    stream: bool | None = None
    messages: msgspec.Raw = _NONE
    keep_alive: msgspec.Raw = _NONE
    options: _Limit | None = None
    resume: bool | None = None


class _GenerateHead(msgspec.Struct, gc=False):
    model: str | None = None
    stream: bool | None = None
    prompt: msgspec.Raw = _NONE
    suffix: msgspec.Raw = _NONE
    raw: bool | None = None
    keep_alive: msgspec.Raw = _NONE
    options: _Limit | None = None
    resume: bool | None = None


class _EmbedHead(msgspec.Struct, gc=False):
    model: str | None = None
    input: msgspec.Raw = _NONE
    prompt: msgspec.Raw = _NONE


class _ManageHead(msgspec.Struct, gc=False):
    model: str | None = None
    name: str | None = None
    source: str | None = None
    destination: str | None = None
    stream: bool | None = None
    server: str | None = None


class _Tail(msgspec.Struct, gc=False):
    done: bool = False
    status: str = ""
    error: msgspec.Raw = _NONE
    total_duration: int = 0
    load_duration: int = 0
    prompt_eval_count: int = 0
    prompt_eval_duration: int = 0
    eval_count: int = 0
    eval_duration: int = 0


_tail = msgspec.json.Decoder(_Tail)


def _last(tail: bytes) -> _Tail:
    """What the last line tells of the end. Of one whose beginning is cut off (a long `context`) what can still be seen.

    The numbers come last, and inside a text their quotes would be escaped.
    """
    line = tail.rstrip(b"\n").rpartition(b"\n")[2]
    try:
        return _tail.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        told = _Tail(done=line.endswith(b"}") and b'"done":true,"done_reason":' in line)
        for name, number in _COUNT.findall(line):
            setattr(told, name.decode(), int(number))
        return told


@dataclass(frozen=True, slots=True)
class _Wire:
    """What all of Ollama's wires have in common."""

    wire: str
    paths: tuple[str, ...]
    method: str = "POST"

    def parse_usage(self, tail: bytes, streamed: bool) -> Usage | None:
        """From the last line, or from the whole answer; raises msgspec.DecodeError when that is not JSON."""
        try:
            told = _last(tail) if streamed else _tail.decode(tail)
        except msgspec.ValidationError:
            return None  # JSON, but not what Ollama answers: the client is to see it
        if not told.prompt_eval_count and not told.eval_count:
            return None
        return Usage(
            prompt_tokens=told.prompt_eval_count,
            completion_tokens=told.eval_count,
            load_seconds=told.load_duration / 1e9,
            prompt_seconds=told.prompt_eval_duration / 1e9,
            completion_seconds=told.eval_duration / 1e9,
            total_seconds=told.total_duration / 1e9,
        )

    def is_complete(self, tail: bytes) -> bool:
        """Whether the last line says so: it is done, it succeeded, or it tells of the error that ended it."""
        told = _last(tail)
        return told.done or told.status == "success" or len(told.error) > 0

    def render_interruption(self, error: PenstockError) -> bytes:
        """The error as a line of its own.

        Engines flush whole lines, and an empty one makes Ollama's Python and Go clients fail, so none is sent first.
        """
        return render_error(error) + b"\n"


class _Chat(_Wire):
    __slots__ = ()

    def parse_request(self, body: bytes, content_type: bytes) -> Call:
        """The model, whether it streams, and whether it asks only to load or unload (flags of these names).

        Other flags: `lenient`, and those of `resuming`.
        """
        head, flags = _head(_chat_head, body, "ChatRequest")
        empty = _empty(head.messages)
        if empty and not flags:
            head, flags = _head_relaxed(_chat_head, body, "ChatRequest")
            empty = _empty(head.messages)
        if not head.model:
            raise InvalidRequest("model is required", param="model")
        stream = head.stream is not False
        if empty:
            flags, stream = flags | _loading(head.keep_alive), False
        if head.resume is not None and not flags:
            body, flags = pop_resume_flag(body, head.resume)
        limit = _limit(head.options)
        return Call(self.wire, Operation.CHAT, _named(head.model), stream, body, flags=flags, max_tokens=limit)

    def decode_content(self, call: Call) -> Content:
        """The conversation; without messages for a request to load or unload."""
        return request.chat(_whole(call, "ChatRequest"))

    def create_renderer(self, call: Call, provenance: Provenance) -> Renderer:
        """What draws `message`s."""
        return AnswerRenderer(call, provenance, generate=False)


class _Generate(_Wire):
    __slots__ = ()

    def parse_request(self, body: bytes, content_type: bytes) -> Call:
        """As for a chat; raw prompts and those with a suffix are completions."""
        head, flags = _head(_generate_head, body, "GenerateRequest")
        empty = _empty(head.prompt)
        if empty and not flags:
            head, flags = _head_relaxed(_generate_head, body, "GenerateRequest")
            empty = _empty(head.prompt)
        if not head.model:
            raise ModelNotFound("model '' not found", param="model")
        stream = head.stream is not False
        if empty:
            flags, stream = flags | _loading(head.keep_alive), False
        operation = Operation.COMPLETION if head.raw or not _empty(head.suffix) else Operation.CHAT
        if head.resume is not None and not flags:
            body, flags = pop_resume_flag(body, head.resume)
        limit = _limit(head.options)
        return Call(self.wire, operation, _named(head.model), stream, body, flags=flags, max_tokens=limit)

    def decode_content(self, call: Call) -> Content:
        """A conversation of one turn, or the text to complete."""
        return request.generate(_whole(call, "GenerateRequest"))

    def create_renderer(self, call: Call, provenance: Provenance) -> Renderer:
        """What draws `response`s."""
        return AnswerRenderer(call, provenance, generate=True)


class _Embed(_Wire):
    __slots__ = ()

    def parse_request(self, body: bytes, content_type: bytes) -> Call:
        """The model; the flag `load` when there is nothing to embed."""
        single = self.wire == "ollama.embeddings"
        request = "EmbeddingRequest" if single else "EmbedRequest"
        head, flags = _head(_embed_head, body, request)
        if _empty(head.prompt if single else head.input) and not flags:
            head, flags = _head_relaxed(_embed_head, body, request)
        if not head.model:
            if single:
                raise InvalidRequest("model is required", param="model")
            raise ModelNotFound("model '' not found", param="model")
        if _empty(head.prompt if single else head.input):
            flags |= {"load"}
        return Call(self.wire, Operation.EMBEDDING, _named(head.model), False, body, flags=flags)

    def decode_content(self, call: Call) -> Content:
        """The texts."""
        if self.wire == "ollama.embeddings":
            return request.embeddings(_whole(call, "EmbeddingRequest"))
        return request.embed(_whole(call, "EmbedRequest"))

    def create_renderer(self, call: Call, provenance: Provenance) -> Renderer:
        """What draws the vectors."""
        return VectorRenderer(call, provenance, single=self.wire == "ollama.embeddings")


class _Manage(_Wire):
    """Pull, push, create, copy, delete: for Ollama servers only; `server` in the body names one."""

    __slots__ = ()

    def parse_request(self, body: bytes, content_type: bytes) -> Call:
        """The model and the server meant."""
        act = self.wire.partition(".")[2]
        request = f"{act.capitalize()}Request"
        head, flags = _head(_manage_head, body, request)
        if not flags and not (head.source if act == "copy" else head.model):
            head, flags = _head_relaxed(_manage_head, body, request)
        model = (head.source if act == "copy" else head.model or head.name) or ""
        self._check(act, model, head.destination or "")
        stream = act in ("pull", "push", "create") and head.stream is not False
        return Call(
            self.wire,
            Operation.MANAGE,
            model.strip(),
            stream,
            body,
            kinds=("ollama",),
            server=head.server or "",
            flags=flags,
        )

    def _check(self, act: str, model: str, destination: str) -> None:
        if act == "copy":
            for word, name in (("source", model), ("destination", destination)):
                if not name.strip() or _NO_NAME(name):
                    raise InvalidRequest(f'{word} "{name}" is invalid', param=word)
        elif not model.strip() and act in ("push", "delete"):
            raise InvalidRequest("model is required", param="model")
        elif not model.strip() or _NO_NAME(model):
            message = f'name "{model}" is invalid' if act == "delete" else "invalid model name"
            raise InvalidRequest(message, param="model")

    def decode_content(self, call: Call) -> Content:
        """Nothing that another kind of engine could do."""
        raise Unsupported(f"/api/{self.wire.partition('.')[2]} manages models of Ollama servers only")

    def create_renderer(self, call: Call, provenance: Provenance) -> Renderer:
        """For its errors alone: these answers pass through."""
        return AnswerRenderer(call, provenance, generate=True)


_chat_head = msgspec.json.Decoder(_ChatHead)
_generate_head = msgspec.json.Decoder(_GenerateHead)
_embed_head = msgspec.json.Decoder(_EmbedHead)
_manage_head = msgspec.json.Decoder(_ManageHead)


def _head(decoder: "msgspec.json.Decoder[Any]", body: bytes, request: str) -> tuple[Any, frozenset[str]]:
    """What routing needs; the flag `lenient` marks a body that only Ollama's leniency can read."""
    try:
        head = decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _head_relaxed(decoder, body, request)
    return (head, _NO_FLAGS) if head.model else _head_relaxed(decoder, body, request)


def _head_relaxed(decoder: "msgspec.json.Decoder[Any]", body: bytes, request: str) -> tuple[Any, frozenset[str]]:
    return relaxed(decoder, body, request), _LENIENT


def _whole(call: Call, request: str) -> bytes:
    return strict(call.body, request) if "lenient" in call.flags else call.body


def _named(model: str) -> str:
    if _NO_NAME(model):
        raise InvalidRequest("invalid model name", param="model")
    return model.strip()


def _empty(raw: msgspec.Raw) -> bool:
    """Whether a list or text is absent, null or empty; long ones are not looked into."""
    return len(raw) < 64 and (not len(raw) or not msgspec.json.decode(raw))


def _loading(keep_alive: msgspec.Raw) -> frozenset[str]:
    return frozenset({"unload" if request.keep_alive(keep_alive) == 0 else "load"})


def _limit(options: _Limit | None) -> int | None:
    """`num_predict`, where it is a limit."""
    if options is None or options.num_predict is None or options.num_predict < 0:
        return None
    return int(options.num_predict)


def _managed(act: str, method: str = "POST") -> _Manage:
    return _Manage(f"ollama.{act}", (f"/api/{act}",), method)


DIALECT = Dialect(
    "ollama",
    (
        _Chat("ollama.chat", ("/api/chat",)),
        _Generate("ollama.generate", ("/api/generate",)),
        _Embed("ollama.embed", ("/api/embed",)),
        _Embed("ollama.embeddings", ("/api/embeddings",)),
        _managed("pull"),
        _managed("push"),
        _managed("create"),
        _managed("copy"),
        _managed("delete", "DELETE"),
    ),
    render_error,
    prefixes=("/api/",),
    media_type=JSON,
)
