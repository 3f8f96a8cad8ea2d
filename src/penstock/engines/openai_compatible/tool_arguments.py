"""Arguments of tool calls in a conversation's history.

Many clients store a call without arguments with an empty text. Servers parse it as JSON and fail.
"""

import re

NO_ARGUMENTS = "{}"

# Within a text the quotes are escaped, so that only fields match.
_fill_empty = re.compile(rb'("arguments"\s*:\s*)(?:"\s*"|null)').sub


def fill_arguments(body: bytes) -> bytes:
    """Return the body of a chat that contains tool calls, with `{}` for their empty arguments."""
    return _fill_empty(rb'\1"{}"', body)
