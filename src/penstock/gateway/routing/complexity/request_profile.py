"""What a call asks for, where the choice of its model is ours: how hard, of what kind, and what else a model needs."""

import re

from penstock.domain.complexity import Level, RequestProfile, TaskType
from penstock.domain.content import Chat, Completion, Content, Image
from penstock.gateway.routing.complexity.classifier import Classifier
from penstock.gateway.routing.complexity.conversation import find_conversation_floor, raise_level_for_context

BYTES_PER_TOKEN = 4
"""Of English, and about of Russian too: two bytes a letter, and tokens of two or three letters."""
IMAGE_TOKENS = 800
_RUSSIAN = re.compile("[а-яёА-ЯЁ]")


def profile_request(content: Content, classifier: Classifier) -> RequestProfile:
    """The last user message is judged; the conversation, tools, images and length can only lift the level."""
    if isinstance(content, Chat):
        said = [message.text for message in content.messages if message.role == "user"]
        images = sum(isinstance(part, Image) for message in content.messages for part in message.parts)
        tools = bool(content.tools) and (content.tool_choice is None or content.tool_choice.mode != "none")
        size = sum(len(message.text.encode()) for message in content.messages)
        size += sum(len(tool.parameters) + len(tool.description) for tool in content.tools)
    elif isinstance(content, Completion):
        said = [prompt for prompt in content.prompts if isinstance(prompt, str)]
        images, tools = len(content.images), False
        size = sum(len(prompt.encode()) if isinstance(prompt, str) else len(prompt) * 4 for prompt in content.prompts)
    else:
        return RequestProfile(Level.TRIVIAL, TaskType.FACTUAL)
    last = said[-1] if said else ""
    judgement = classifier.classify(last)
    level = judgement.level
    floor = find_conversation_floor(said[:-1], last, lambda text: classifier.classify(text).level)
    if floor is not None:
        level = max(level, floor)
    tokens = size // BYTES_PER_TOKEN + images * IMAGE_TOKENS
    level = raise_level_for_context(level, tools=tools, images=images, context_tokens=tokens)
    russian = _RUSSIAN.search(last[:400]) is not None
    return RequestProfile(level, judgement.task_type, tools, images, tokens, russian, judgement.scores)
