"""Items of a conversation that tools of OpenAI's own servers have left: for a model they become text."""

from typing import Any

import msgspec

_TEXT_FIELDS = ("name", "query", "queries", "url", "code", "arguments", "input", "output", "text", "error")
_MAX_TEXT = 20_000


def describe_item(item: msgspec.Raw, kind: str) -> str:
    """Return an item as text, "" if it has nothing that a model could read."""
    fields = msgspec.json.decode(item)
    texts = list(_collect_texts(fields))
    if not texts:
        return ""
    return f"[{kind.removesuffix('_call')}: {'; '.join(texts)[:_MAX_TEXT]}]"


def _collect_texts(fields: dict[str, Any]) -> list[str]:
    texts: list[str] = []
    for name in _TEXT_FIELDS:
        value = fields.get(name)
        if isinstance(value, str) and value:
            texts.append(value)
        elif isinstance(value, list):
            texts.extend(text for text in value if isinstance(text, str))
    if isinstance(fields.get("action"), dict):
        texts.extend(_collect_texts(fields["action"]))
    return texts
