"""Models that can think: by what their server says, else by their family's name."""

import re

from penstock.domain.content import Thinking
from penstock.domain.errors import InvalidRequest
from penstock.domain.fleet import Model
from penstock.engines.omitted_fields import OmittedFields

_CAN_THINK = re.compile(
    r"think|reason|qwq|qvq|deepseek-?(r1|v3\.[1-9])|gpt-?oss|magistral|marco-o1|deepscaler|exaone-?deep|cogito"
    r"|qwen-?3(?!.*(instruct|coder|embed|rerank))|glm-?(4\.[5-9]|[5-9])|minimax-?m|nemotron-?(3|nano)|kimi-?k2"
    r"|(?<![a-z0-9])(o[134](?![a-z0-9])|gpt-5)"
)
_CANNOT_THINK = re.compile(
    r"llama-?[23]|codellama|tinyllama|gemma-?[123]|qwen-?(1\.5|2)|qwen-?3.*(instruct|coder)|phi-?3|(?<!co)mistral|mixtral"
    r"|ministral|codestral|devstral|starcoder|smollm-?[12]?(?![0-9])|falcon|yi-|command-?r|gpt-(3|4)|deepseek-coder"
)


def can_think(model: Model) -> bool | None:
    """Return whether a model can think, None if that is unknown. A server's own word counts before the name's."""
    if "thinking" in model.capabilities:
        return True
    names = " ".join((model.name, *model.aliases)).lower()
    if _CAN_THINK.search(names):
        return True
    return False if model.capabilities or _CANNOT_THINK.search(names) else None


def omit_thinking(thinking: Thinking, model: Model, omitted: OmittedFields) -> None:
    """Leave thinking out of a request to a model that cannot think. Raises InvalidRequest if it is required."""
    if not thinking.enabled:
        return
    if thinking.is_required:
        raise InvalidRequest(f'"{model.name}" does not support thinking', param="think")
    for name in thinking.fields:
        omitted.add_name(name)
