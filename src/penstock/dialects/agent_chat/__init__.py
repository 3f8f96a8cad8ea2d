"""Agent chat: a message to Victoria, answered with one body, a plan, or a stream of events."""

from penstock.dialects.agent_chat import chat, stream

DIALECTS = (chat.DIALECT, stream.DIALECT)
