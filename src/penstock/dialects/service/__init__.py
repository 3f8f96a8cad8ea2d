"""The service API: a chat route for programs, and a variant that routes by stated requirements."""

from penstock.dialects.service import chat, routed_chat

DIALECTS = (chat.DIALECT, routed_chat.DIALECT)
