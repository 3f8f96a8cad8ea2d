"""System messages as chat templates accept them: one at the beginning, and none with the role `developer`.

Many templates (Qwen's, among others) refuse a second system message, or one after the first turn.
"""

from dataclasses import replace

from penstock.domain.content import Message, Part, Text

_SYSTEM_ROLES = frozenset({"system", "developer"})


def merge_system_messages(messages: tuple[Message, ...], *, keeps_later: bool) -> tuple[Message, ...]:
    """Return the messages with the leading system messages merged into one.

    Later ones keep their place: as system messages if `keeps_later`, else as part of the user's turn.
    """
    if not messages or not (messages[0].role == "developer" or any(m.role in _SYSTEM_ROLES for m in messages[1:])):
        return messages
    merged: list[Message] = []
    is_leading, was_moved = True, False
    for message in messages:
        is_system = message.role in _SYSTEM_ROLES
        is_leading = is_leading and is_system
        previous = merged[-1] if merged else None
        if is_leading:
            if previous is None:
                merged.append(replace(message, role="system"))
            else:
                merged[-1] = replace(previous, parts=_join_parts(previous.parts, message.parts))
        elif is_system and keeps_later:
            merged.append(message if message.role == "system" else replace(message, role="system"))
        elif previous is not None and previous.role == "user" and (is_system or (was_moved and message.role == "user")):
            merged[-1] = replace(previous, parts=_join_parts(previous.parts, message.parts))
        else:
            merged.append(replace(message, role="user") if is_system else message)
        was_moved = is_system and not is_leading
    return tuple(merged)


def _join_parts(first: tuple[Part, ...], second: tuple[Part, ...]) -> tuple[Part, ...]:
    """Join the parts of two messages; the last text and the first become one, with an empty line between them."""
    index = next((index for index in range(len(first) - 1, -1, -1) if isinstance(first[index], Text)), None)
    if index is None or not second or not isinstance(second[0], Text):
        return first + second
    before = first[index]
    text = Text(f"{before.text}\n\n{second[0].text}" if isinstance(before, Text) else second[0].text)
    return (*first[:index], text, *first[index + 1 :], *second[1:])
