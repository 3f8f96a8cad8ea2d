"""Corrections of a text's level: for the conversation that it continues, and for tools, images and context."""

import re
from collections.abc import Callable, Sequence

from penstock.domain.complexity import Level

MAX_FOLLOW_UP_WORDS = 6
MAX_PREVIOUS_MESSAGES = 8
"""Number of earlier user messages that a chain of follow-ups may reach back."""

LONG_CONTEXT_TOKENS = 8_000
VERY_LONG_CONTEXT_TOKENS = 32_000

_FOLLOW_UP_WORDS = (
    r"да|ага|угу|ок|окей|ладно|хорошо|конечно|верно|именно|точно|согласен|согласна|давай(?:те)?|продолж\w*|дальше|далее|еще|ещё|"
    r"подробнее|детальнее|короче|проще|следующ\w+|сделай(?:те)?|валяй|вперед|вперёд|поехали|пиши|напиши|так|и|а|можно|нужно|хочу|"
    r"пожалуйста|плиз|это|его|ее|её|их|все|всё|раз|попробуй|заново|снова|повтори|исправь|перв\w+|втор\w+|вариант\w*|тоже|теперь|"
    r"почему|зачем|не|понял\w*|работает|помогло|нет|лучше|тот|то|же|самое|"
    r"yes|yeah|yep|yup|ok|okay|sure|right|exactly|agreed|go|on|ahead|continue|proceed|next|more|again|further|please|do|it|that|this|"
    r"the|them|all|keep|going|carry|and|then|try|once|redo|repeat|fix|details?|shorter|longer|simpler|elaborate|expand|first|second|"
    r"one|option|part|same|now|why|not|still|doesn|does|t|didn|work|works|working|no|let|s|lets|write|finish|rest|another|so|what|else|step"
)
_FOLLOW_UP = re.compile(rf"{_FOLLOW_UP_WORDS}|\d{{1,2}}", re.IGNORECASE)
_THANKS_OR_BYE = re.compile(r"\W*(?:нет|no)?\W*(?:спасибо|благодар\w+|спс|пока|thanks?|thx|bye)\b", re.IGNORECASE)
_WORD = re.compile(r"[^\W_]+")
_MAX_FOLLOW_UP_CHARS = 80


def is_follow_up(text: str) -> bool:
    """Return whether a message only asks to continue the previous one: "да, продолжай", "yes please", "дальше", "2"."""
    stripped = text.strip()
    if not stripped or len(stripped) > _MAX_FOLLOW_UP_CHARS or _THANKS_OR_BYE.match(stripped):
        return False
    words = _WORD.findall(stripped)
    return 0 < len(words) <= MAX_FOLLOW_UP_WORDS and all(map(_FOLLOW_UP.fullmatch, words))


def find_conversation_floor(previous: Sequence[str], last: str, classify_level: Callable[[str], Level]) -> Level | None:
    """Return the lowest level for a message that continues an earlier one; None if it does not.

    `previous` are the user's earlier messages, oldest first; `classify_level` classifies one. "да, продолжай" is
    trivial as a text but as hard as what it continues: the nearest earlier message that is not a follow-up itself.
    """
    if not is_follow_up(last):
        return None
    for message in reversed(previous[-MAX_PREVIOUS_MESSAGES:]):
        if not is_follow_up(message):
            return classify_level(message)
    return None


def raise_level_for_context(
    level: Level, *, has_tools: bool = False, image_count: int = 0, context_tokens: int = 0
) -> Level:
    """Raise the level for tools, images and context; never lower it.

    - Tools: a model of 1B calls them wrongly or not at all, so at least simple. Not more, because agents send their
      tools with every message.
    - Images: describing one is simple, comparing several is moderate. The model's vision is a separate requirement.
    - Context, in tokens: beyond 8,000 at least simple, beyond 32,000 at least moderate, however short the last message
      is: the smaller the model, the earlier it fails to find what it needs in a long context.
    """
    floor = Level.TRIVIAL
    if has_tools or image_count or context_tokens > LONG_CONTEXT_TOKENS:
        floor = Level.SIMPLE
    if image_count > 1 or context_tokens > VERY_LONG_CONTEXT_TOKENS:
        floor = Level.MODERATE
    return max(level, floor)
