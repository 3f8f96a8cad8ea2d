"""Anthropic's Messages API, as its official clients use it."""

from penstock.dialects.anthropic.endpoints import CountEndpoint, MessagesEndpoint
from penstock.dialects.anthropic.errors import render_error
from penstock.dialects.base import Dialect

DIALECT = Dialect(
    name="anthropic",
    endpoints=(MessagesEndpoint(), CountEndpoint()),
    render_error=render_error,
    prefixes=("/v1/messages",),
)
