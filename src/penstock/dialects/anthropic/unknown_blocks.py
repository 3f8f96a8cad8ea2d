"""Blocks of a conversation that no model but the provider's can get: they become text, or are left out."""

from typing import Any

import msgspec

_KNOWN_TYPES = frozenset(
    {
        *("text", "image", "document", "search_result", "thinking", "redacted_thinking", "tool_use", "tool_result"),
        *("base64", "url", "file", "content"),
    }
)
_encode = msgspec.json.Encoder().encode


def replace_unknown_blocks(body: bytes, ignored: list[str]) -> bytes:
    """Return the body without blocks of unknown types; `ignored` gets the names of those that are left out."""
    request = msgspec.json.decode(body)
    for message in request.get("messages") or ():
        if isinstance(message, dict) and isinstance(message.get("content"), list):
            message["content"] = _replace_blocks(message["content"], "messages", ignored)
    if isinstance(request.get("system"), list):
        request["system"] = _replace_blocks(request["system"], "system", ignored)
    return _encode(request)


def _replace_blocks(blocks: list[Any], path: str, ignored: list[str]) -> list[Any]:
    replaced: list[Any] = []
    for block in blocks:
        kind = block.get("type") if isinstance(block, dict) else None
        if not isinstance(kind, str):
            replaced.append(block)
            continue
        if kind in _KNOWN_TYPES:
            if kind == "tool_result" and isinstance(block.get("content"), list):
                block["content"] = _replace_blocks(block["content"], path, ignored)
            replaced.append(block)
        elif text := _describe_block(kind, block):
            replaced.append({"type": "text", "text": text})
        else:
            ignored.append(f"{path}.{kind}")
    return replaced


def _describe_block(kind: str, block: dict[str, Any]) -> str:
    """Return a block as text, "" for one that says nothing to a model."""
    if kind == "tool_reference":
        return f"[tool: {block.get('tool_name')}]"
    if kind in ("server_tool_use", "mcp_tool_use"):
        return f"[{block.get('name')}({_encode(block.get('input')).decode()})]"
    if kind.endswith("_tool_result"):
        return _describe_result(block.get("content"))
    text = block.get("text")
    return text if isinstance(text, str) else ""


def _describe_result(content: Any) -> str:
    """Return the texts of a result's entries: titles, addresses and texts, one a line."""
    if isinstance(content, str):
        return content
    entries = content if isinstance(content, list) else [content]
    lines: list[str] = []
    for entry in entries:
        if isinstance(entry, dict):
            names = ("title", "url", "text", "stdout", "stderr", "error_code")
            lines.extend(entry[name] for name in names if isinstance(entry.get(name), str) and entry[name])
    return "\n".join(lines)
