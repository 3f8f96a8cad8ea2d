"""Agent chat: a message for Victoria, answered whole, with a plan, or as a stream of events."""

from penstock.dialects.agent_chat import chat, stream

DIALECTS = (chat.DIALECT, stream.DIALECT)
