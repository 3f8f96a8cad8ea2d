"""Tool calls in Ollama's form."""

import secrets
import string
from typing import Any

from penstock.sim.generated_text import Answer

_LETTERS = string.ascii_lowercase + string.digits


def call_id() -> str:
    return "call_" + "".join(secrets.choice(_LETTERS) for _ in range(8))


def call_of(answer: Answer) -> dict[str, Any]:
    """Build the call of an answer, its arguments as an object."""
    if answer.call is None:
        return {}
    return {"id": call_id(), "function": {"index": 0, "name": answer.call.name, "arguments": answer.call.arguments}}
