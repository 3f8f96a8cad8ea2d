"""Profile of a request whose model the gateway selects: level, task type and what else a model needs for it."""

import re

from penstock.domain.complexity import Level, RequestProfile, TaskType
from penstock.domain.content import Chat, Completion, Content, Image
from penstock.domain.request import BYTES_PER_TOKEN
from penstock.gateway.routing.complexity.classifier import Classifier
from penstock.gateway.routing.complexity.conversation import find_conversation_floor, raise_level_for_context

"""For English, and about for Russian too: two bytes a letter, and tokens of two or three letters."""
IMAGE_TOKENS = 800
_RUSSIAN = re.compile("[а-яёА-ЯЁ]")
_LANGUAGE_SAMPLE_CHARS = 400


def profile_request(content: Content, classifier: Classifier) -> RequestProfile:
    """Classify the last user message. The conversation, tools, images and length can only raise the level."""
    if isinstance(content, Chat):
        user_texts = [message.text for message in content.messages if message.role == "user"]
        image_count = sum(isinstance(part, Image) for message in content.messages for part in message.parts)
        has_tools = bool(content.tools) and (content.tool_choice is None or content.tool_choice.mode != "none")
        size = sum(len(message.text.encode()) for message in content.messages)
        size += sum(len(tool.parameters) + len(tool.description) for tool in content.tools)
    elif isinstance(content, Completion):
        user_texts = [prompt for prompt in content.prompts if isinstance(prompt, str)]
        image_count, has_tools = len(content.images), False
        size = sum(
            len(prompt.encode()) if isinstance(prompt, str) else len(prompt) * BYTES_PER_TOKEN
            for prompt in content.prompts
        )
    else:
        return RequestProfile(Level.TRIVIAL, TaskType.FACTUAL)
    last_text = user_texts[-1] if user_texts else ""
    classification = classifier.classify(last_text)
    level = classification.level
    floor = find_conversation_floor(user_texts[:-1], last_text, lambda text: classifier.classify(text).level)
    if floor is not None:
        level = max(level, floor)
    context_tokens = size // BYTES_PER_TOKEN + image_count * IMAGE_TOKENS
    return RequestProfile(
        raise_level_for_context(level, has_tools=has_tools, image_count=image_count, context_tokens=context_tokens),
        classification.task_type,
        has_tools=has_tools,
        image_count=image_count,
        context_tokens=context_tokens,
        prefers_russian=_RUSSIAN.search(last_text[:_LANGUAGE_SAMPLE_CHARS]) is not None,
        scores=classification.scores,
    )
