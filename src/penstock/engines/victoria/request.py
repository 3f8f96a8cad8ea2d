"""Requests to Victoria: a goal and the conversation before it. What it cannot do is refused or left out by name."""

from collections.abc import Iterable

import msgspec

from penstock.domain.content import AgentTask, Chat, Content, Message, Text
from penstock.domain.errors import InvalidRequest, Unsupported
from penstock.domain.request import Call
from penstock.engines.base import EngineRequest
from penstock.engines.omitted_fields import OmittedFields
from penstock.engines.victoria.response import TITLE


class _Exchange(msgspec.Struct, gc=False):
    user: str
    assistant: str


class _RunRequest(msgspec.Struct, omit_defaults=True, gc=False):
    """Body of `/run`, `/stream` and `/plan`."""

    goal: str
    session_id: str = ""
    chat_history: list[_Exchange] = []


_encode = msgspec.json.Encoder().encode


def build_request(call: Call, content: Content) -> EngineRequest:
    """Build the request for an agent task or a chat. Raises Unsupported for anything else."""
    ignored: tuple[str, ...] = ()
    if isinstance(content, AgentTask):
        # No field of the API names an expert, so the goal is addressed to one.
        goal = f"{content.expert}: {content.goal}" if content.expert else content.goal
        run = _RunRequest(goal, content.session, _pair_messages(content.history))
        if content.plan:
            return EngineRequest("/plan", _encode(_RunRequest(goal)))
    elif isinstance(content, Chat):
        run = _run_from_chat(content)
        ignored = _omit_fields(content)
    else:
        raise Unsupported(f"{TITLE} is an agent and does not support {call.operation.value}. Choose another model.")
    body = _encode(run)
    # Versions without the asynchronous mode ignore the parameter and respond at once.
    single = EngineRequest(
        "/run?async_mode=true", body, may_be_polled=True, fallback=EngineRequest("/run", body), ignored=ignored
    )
    if not call.stream:
        return single
    return EngineRequest("/stream", body, stream=True, fallback=single, ignored=ignored)


def _run_from_chat(chat: Chat) -> _RunRequest:
    """Make the last user messages the goal, after the system messages; the other messages are history."""
    _refuse_unsupported(chat)
    system = [message.text for message in chat.messages if message.role in ("system", "developer") and message.text]
    turns = [message for message in chat.messages if message.role in ("user", "assistant")]
    if not turns:
        raise InvalidRequest(f"The chat has no user message. {TITLE} needs one.", param="messages")
    if turns[-1].role != "user":
        raise Unsupported(
            f"{TITLE} cannot continue a response. Make the last message a user message.", param="messages"
        )
    start = len(turns)
    while start and turns[start - 1].role == "user":
        start -= 1
    goal = "\n\n".join([*system, *(message.text for message in turns[start:])])
    return _RunRequest(goal, "", _pair_messages(turns[:start]))


def _refuse_unsupported(chat: Chat) -> None:
    """Raise Unsupported for what would otherwise be dropped silently."""
    sampling = chat.sampling
    has_other_parts = any(not isinstance(part, Text) for message in chat.messages for part in message.parts)
    has_tool_calls = any(message.tool_calls or message.role == "tool" for message in chat.messages)
    for is_requested, feature, field in (
        (bool(chat.tools) or has_tool_calls, "tools of the client", "tools"),
        (has_other_parts, "anything but text", "messages"),
        (chat.format is not None, "a JSON schema", "response_format"),
        ((sampling.n or 1) > 1, "several responses", "n"),
        (sampling.logprobs, "log probabilities", "logprobs"),
        (bool(sampling.stop), "stop sequences", "stop"),
    ):
        if is_requested:
            raise Unsupported(f"{TITLE} does not support {feature}. Leave it out or choose another model.", param=field)


def _omit_fields(chat: Chat) -> tuple[str, ...]:
    """Return the names of the settings and fields that an agent cannot use."""
    omitted = OmittedFields(TITLE)
    omitted.add_sampling(chat.sampling, frozenset())
    omitted.add_fields(chat.options + chat.extra)
    if chat.user:
        omitted.add_name("user")
    if chat.thinking is not None and chat.thinking.enabled:
        for name in chat.thinking.fields:
            omitted.add_name(name)
    return omitted.names


def _pair_messages(history: Iterable[Message]) -> list[_Exchange]:
    """Pair the messages of user and assistant; consecutive messages of one side are joined."""
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
