"""What the agent chat's three routes are sent, and the task that it means."""

import msgspec

from penstock.dialects.service.request import Words, chosen, read, spoken
from penstock.domain.content import AgentTask
from penstock.domain.errors import InvalidRequest, NoServer, PenstockError
from penstock.domain.fleet import AGENT_CHAIN
from penstock.domain.request import Call, Operation

"""Who is asked, in this order: the agent, and MLX where it cannot. No other kind ever is."""


class _Body(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    content: Words
    expert_name: str | None = None
    model: str | None = None
    use_victoria: bool = True
    mode: str | None = None
    chat_id: str | None = None


_body = msgspec.json.Decoder(_Body)


def call(wire: str, body: bytes, stream: bool = False, plan: bool = False) -> Call:
    """The call that a body means; raises InvalidRequest naming the field."""
    asked = read(_body, body)
    spoken(asked.content, "content")
    if plan and not asked.use_victoria:
        raise InvalidRequest("Only Victoria makes plans: leave `use_victoria` out.", param="use_victoria")
    kinds = AGENT_CHAIN[:1] if plan else AGENT_CHAIN if asked.use_victoria else AGENT_CHAIN[1:]
    return Call(wire, Operation.AGENT, chosen(asked.model), stream, body, kinds)


def task(body: bytes, plan: bool = False) -> AgentTask:
    """The task in a body."""
    asked = read(_body, body)
    return AgentTask(
        asked.content,
        expert=asked.expert_name or "",
        mode=asked.mode or "",
        session=asked.chat_id or "",
        plan=plan,
    )


def plainly(error: PenstockError) -> PenstockError:
    """An error in words for whoever sits before the chat: what to do first, then what was tried."""
    if not isinstance(error, NoServer):
        return error
    reason = error.message.rstrip(".")
    return NoServer(
        "Nobody is there to answer in this chat just now. Start Victoria or the MLX API server, or correct its "
        f"address, and send the message again ({reason}).",
        retry_after=error.retry_after,
    )
