"""The service API: one chat route for programs, and its variant that routes by stated requirements."""

from penstock.dialects.service import chat, routed_chat

DIALECTS = (chat.DIALECT, routed_chat.DIALECT)
