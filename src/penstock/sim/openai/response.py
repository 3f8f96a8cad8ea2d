"""Parts of OpenAI's responses that several simulated servers share."""

import base64
import random
import struct
from typing import Any

import msgspec

DONE = b"data: [DONE]\n\n"
JSON = "application/json"
EVENTS = "text/event-stream"


def encode_event(value: Any) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def build_usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "total_tokens": prompt + completion, "completion_tokens": completion}


def arguments_text(arguments: Any) -> str:
    """Encode the arguments of a call as JSON text, as OpenAI's format requires."""
    return msgspec.json.encode(arguments).decode()


def split_text(text: str, size: int = 8) -> list[str]:
    """Split a text into pieces, as models stream the arguments of a call."""
    return [text[at : at + size] for at in range(0, len(text), size)]


def build_logprob(token: str, alternatives: int, *, byte_list: bool = True) -> dict[str, Any]:
    """Build a synthetic log-probability of a token and of its alternatives; the same for the same token."""
    dice = random.Random(token)
    own = round(-dice.random() * 0.4, 6)

    def entry(text: str, value: float) -> dict[str, Any]:
        return {"token": text, "logprob": value, **({"bytes": list(text.encode())} if byte_list else {})}

    others = [entry(token if rank == 0 else f"{token.strip()}{rank}", own - rank) for rank in range(alternatives)]
    return {**entry(token, own), "top_logprobs": others}


def encode_embedding(vector: list[float], encoding: Any) -> list[float] | str:
    """Encode a vector as a list, or as base64 of little-endian float32 if `encoding` is base64."""
    if encoding == "base64":
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    return vector
