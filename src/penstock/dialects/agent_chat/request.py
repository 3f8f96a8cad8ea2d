"""Requests of the agent chat's three routes, and error messages for its users."""

import msgspec

from penstock.dialects.service.request import NonEmptyText, check_not_blank, decode_body, parse_model
from penstock.domain.content import AgentTask
from penstock.domain.errors import InvalidRequest, NoServer, PenstockError
from penstock.domain.fleet import AGENT_CHAIN
from penstock.domain.request import Call, Operation


class _Body(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    content: NonEmptyText
    expert_name: str | None = None
    model: str | None = None
    use_victoria: bool = True
    mode: str | None = None
    chat_id: str | None = None


_decoder = msgspec.json.Decoder(_Body)


def parse_call(wire: str, body: bytes, stream: bool = False, plan: bool = False) -> Call:
    """Parse a body. Raises InvalidRequest that names the field."""
    fields = decode_body(_decoder, body)
    check_not_blank(fields.content, "content")
    if plan and not fields.use_victoria:
        raise InvalidRequest("Only Victoria makes plans. Leave `use_victoria` out.", param="use_victoria")
    kinds = AGENT_CHAIN[:1] if plan else AGENT_CHAIN if fields.use_victoria else AGENT_CHAIN[1:]
    return Call(wire, Operation.AGENT, parse_model(fields.model), stream, body, kinds)


def parse_task(body: bytes, plan: bool = False) -> AgentTask:
    """Parse the task in a body."""
    fields = decode_body(_decoder, body)
    return AgentTask(
        fields.content,
        expert=fields.expert_name or "",
        mode=fields.mode or "",
        session=fields.chat_id or "",
        plan=plan,
    )


def explain_error(error: PenstockError) -> PenstockError:
    """Return the error with a message for the user of the chat: first what to do, then what was tried."""
    if not isinstance(error, NoServer):
        return error
    reason = error.message.rstrip(".")
    return NoServer(
        "Neither Victoria nor the MLX API server is available for this chat. Start one of them or correct its address, "
        f"and send the message again ({reason}).",
        retry_after=error.retry_after,
    )
