"""Victoria: an agent that is given a goal and works in steps, over its own HTTP API (`/run`, `/stream`, `/plan`)."""

from collections.abc import Generator, Iterable, Mapping
from types import MappingProxyType
from typing import ClassVar

import msgspec

from penstock.domain.content import AgentTask, Chat, Content, Message, Text
from penstock.domain.errors import InvalidRequest, PenstockError, Unsupported, UpstreamError, UpstreamStatus
from penstock.domain.fleet import Inventory, Model, State
from penstock.domain.request import Call, Operation
from penstock.domain.server_kind import KindDefaults
from penstock.engines.base import EngineRequest, FetchRequest, FetchResponse, Headers, ResponseReader, bearer_headers
from penstock.engines.victoria.async_run import RunReader
from penstock.engines.victoria.response import TITLE, said
from penstock.engines.victoria.response import Reader as AnswerReader

_MODEL = Model("victoria", capabilities=frozenset({"agent", "completion"}))
_WELL = frozenset({"ok", "healthy"})
_COMING = frozenset({"starting", "initializing", "loading"})


class _Exchange(msgspec.Struct, gc=False):
    user: str
    assistant: str


class _Run(msgspec.Struct, omit_defaults=True, gc=False):
    """The body of `/run`, `/stream` and `/plan`."""

    goal: str
    session_id: str = ""
    chat_history: list[_Exchange] = []


_encode = msgspec.json.Encoder().encode


class Victoria:
    """Agent server: it works on a goal in steps, which may take minutes."""

    kind: ClassVar[str] = "victoria"
    title: ClassVar[str] = TITLE
    defaults: ClassVar[KindDefaults] = KindDefaults(
        port=8010, local_probe="always", url_variables=("VICTORIA_URL",), min_timeout=600.0
    )
    native_paths: ClassVar[Mapping[str, str]] = MappingProxyType({})
    loads_on_demand: ClassVar[bool] = False
    operations: ClassVar[frozenset[Operation]] = frozenset({Operation.AGENT, Operation.CHAT})

    def forward_request(self, call: Call, model: Model) -> EngineRequest:
        raise Unsupported(f"{TITLE} does not speak {call.wire}.")

    def translate_request(self, call: Call, content: Content, model: Model) -> EngineRequest:
        if isinstance(content, AgentTask):
            # no field of its API names an expert: the goal is addressed to one
            goal = f"{content.expert}: {content.goal}" if content.expert else content.goal
            run = _Run(goal, content.session, _exchanges(content.history))
            if content.plan:
                return EngineRequest("/plan", _encode(_Run(goal)))
        elif isinstance(content, Chat):
            run = _conversation(content)
        else:
            raise Unsupported(f"{TITLE} is an agent and cannot do {call.operation.value}: choose another model.")
        body = _encode(run)
        # Versions before the asynchronous mode pass over the parameter and answer at once.
        whole = EngineRequest("/run?async_mode=true", body, may_be_polled=True, fallback=EngineRequest("/run", body))
        return EngineRequest("/stream", body, stream=True, fallback=whole) if call.stream else whole

    def build_continuation(self, call: Call, content: Content, model: Model, said: str) -> EngineRequest | None:
        """A run cannot be gone on with."""
        return None

    def create_reader(self, call: Call, content: Content, outgoing: EngineRequest) -> ResponseReader:
        kind = RunReader if outgoing.may_be_polled else AnswerReader
        return kind(ask_in_text=not isinstance(content, AgentTask))

    def parse_error_response(self, status: int, body: bytes, retry_after: float | None) -> PenstockError:
        words = _reason(body) or "it did not say why"
        return UpstreamStatus(f"{TITLE} answered {status}: {words}", status=status, retry_after=retry_after)

    def inspect_server(self, known_models: tuple[Model, ...]) -> Generator[FetchRequest, FetchResponse, Inventory]:
        """`/health` tells how it is; one that does not name its agent must show a `/status` too."""
        fetched = yield FetchRequest("/health")
        health = _object(fetched.body)
        status = str(health.get("status", "")).lower()
        if fetched.status >= 500 and status not in _COMING:
            raise UpstreamError(
                f"it answered {fetched.status} to /health: {_reason(fetched.body) or 'no reason given'}"
            )
        if not status or (fetched.status >= 400 and status not in _COMING):
            raise UpstreamError("what answers there is not Victoria: its /health tells no status")
        if "agent" not in health and (yield FetchRequest("/status", optional=True)).status != 200:
            raise UpstreamError("what answers there is not Victoria: it names no agent and has no /status")
        version = said(health, ("version",))
        if status in _WELL:
            return Inventory((_MODEL,), State.UP, version, detail=said(health, ("agent",)))
        state = State.LOADING if status in _COMING else State.DOWN
        return Inventory((_MODEL,), state, version, detail=f"its status is {status}")

    def authorization_headers(self, api_key: str) -> Headers:
        return bearer_headers(api_key)


def _conversation(chat: Chat) -> _Run:
    """The last user's message is the goal, what the system says stands before it, the rest is history."""
    _refuse(chat)
    system = [message.text for message in chat.messages if message.role in ("system", "developer") and message.text]
    turns = [message for message in chat.messages if message.role in ("user", "assistant")]
    if not turns:
        raise InvalidRequest(f"{TITLE} needs a user's message: there is none.", param="messages")
    if turns[-1].role != "user":
        raise Unsupported(f"{TITLE} cannot go on with an answer: the last message must be a user's.", param="messages")
    start = len(turns)
    while start and turns[start - 1].role == "user":
        start -= 1
    goal = "\n\n".join([*system, *(message.text for message in turns[start:])])
    return _Run(goal, "", _exchanges(turns[:start]))


def _refuse(chat: Chat) -> None:
    """Raise Unsupported for what would otherwise be dropped in silence."""
    sampling = chat.sampling
    pictured = any(not isinstance(part, Text) for message in chat.messages for part in message.parts)
    called = any(message.tool_calls or message.role == "tool" for message in chat.messages)
    for asked, thing, name in (
        (bool(chat.tools) or called, "call a client's tools", "tools"),
        (pictured, "look at anything but text", "messages"),
        (chat.format is not None, "hold to a JSON schema", "response_format"),
        ((sampling.n or 1) > 1, "give several answers", "n"),
        (sampling.logprobs, "tell log probabilities", "logprobs"),
        (bool(sampling.stop), "stop at given words", "stop"),
    ):
        if asked:
            raise Unsupported(f"{TITLE} cannot {thing}: choose another model, or leave that out.", param=name)


def _exchanges(history: Iterable[Message]) -> list[_Exchange]:
    """Messages as pairs of what was asked and answered; turns of one side in a row are joined."""
    pairs: list[_Exchange] = []
    for message in history:
        if message.role == "assistant":
            if not pairs:
                pairs.append(_Exchange("", ""))
            pairs[-1].assistant = "\n\n".join(filter(None, (pairs[-1].assistant, message.text)))
        elif message.role == "user" and pairs and not pairs[-1].assistant:
            pairs[-1].user = "\n\n".join(filter(None, (pairs[-1].user, message.text)))
        elif message.role == "user":
            pairs.append(_Exchange(message.text, ""))
    return pairs


def _object(body: bytes) -> dict[str, object]:
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _reason(body: bytes) -> str:
    """What an error body says: `detail` (text, or a list of {loc, msg}), `error`, `message`, or plain text."""
    value = _object(body)
    detail = value.get("detail")
    if isinstance(detail, list):
        return "; ".join(filter(None, (said(item, ("msg", "message")) for item in detail)))
    if value:
        return said(value, ("detail", "error", "message", "output"))
    return body[:300].decode(errors="replace").strip()


ENGINE = Victoria()
