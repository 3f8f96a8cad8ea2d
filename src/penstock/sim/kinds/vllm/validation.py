"""Validation of requests before generation, with vLLM's own messages."""

from typing import Any

from penstock.sim.exchange import Request
from penstock.sim.openai.request import BrokenJsonError, parse_json

# In the order in which vLLM reports them.
_NUMBERS = {
    "max_tokens": int,
    "max_completion_tokens": int,
    "n": int,
    "seed": int,
    "temperature": float,
    "top_p": float,
}
_PARTS = (
    "audio_embeds",
    "audio_url",
    "image_embeds",
    "image_pil",
    "image_url",
    "input_audio",
    "input_image",
    "input_text",
    "output_text",
    "prompt_embeds",
    "refusal",
    "text",
    "thinking",
    "tool_reference",
    "video_embeds",
    "video_url",
)
_WORDS = {float: ("float", "a valid number", "a number"), int: ("int", "a valid integer", "an integer")}


class RefusedError(Exception):
    """The request is answered with an error: status, message, type, param."""

    def __init__(self, status: int, message: str, kind: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.kind, self.param = status, message, kind, param

    @classmethod
    def for_parameter(cls, message: str, name: str, value: object = None) -> "RefusedError":
        """Create a 400 about one parameter, in the format of vLLM's own checks."""
        details = f"parameter={name}" if value is None else f"parameter={name}, value={value}"
        return cls(400, f"{message} ({details})", param=name)


def validate_body(request: Request, required: str = "", kind: type = object) -> dict[str, Any]:
    """Validate the body. Raises RefusedError if it is no object, lacks `required`, or has a value of the wrong type."""
    if not request.headers.get("content-type", "").startswith("application/json"):
        unsupported = "Unsupported Media Type: Only 'application/json' is allowed"
        raise RefusedError(400, f"1 validation error:\n  {unsupported}", "Bad Request")
    try:
        body = parse_json(request.body)
    except BrokenJsonError as broken:
        before = request.body[: broken.position].rstrip()[-1:]
        keyless = before in (b"{", b",") and not broken.cut
        reason = "Expecting property name enclosed in double quotes" if keyless else "Expecting value"
        context = f", 'ctx': {{'error': '{reason}'}}"
        raise _build_refusal(
            [_describe_flaw("json_invalid", f"body.{broken.position}", "JSON decode error", {}, context)]
        ) from None
    if not isinstance(body, dict):
        text = "Input should be a valid dictionary or object to extract fields from"
        raise _build_refusal([_describe_flaw("model_attributes_type", "body", text, body)])
    flaws = []
    if required and body.get(required) is None:
        flaws.append(_describe_flaw("missing", f"body.{required}", "Field required", body))
    elif required and not isinstance(body[required], kind):
        flaws.append(_describe_flaw("list_type", f"body.{required}", "Input should be a valid list", body[required]))
    flaws += [flaw for name in _NUMBERS if (flaw := _number_flaw(name, body.get(name)))]
    if flaws:
        raise _build_refusal(flaws)
    return body


def check_chat(body: dict[str, Any]) -> None:
    """Raise RefusedError for a chat without messages, with an unknown part, or for several greedy answers."""
    if not body["messages"]:
        text = "Cannot apply chat template to an empty conversation. Provide at least one message."
        raise RefusedError(400, text)
    for message in body["messages"]:
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else ():
            kind = part.get("type") if isinstance(part, dict) else None
            if kind not in _PARTS:
                supported = ", ".join(_PARTS)
                text = f"Unsupported chat content part type: '{kind}'. Supported types: {supported}."
                raise RefusedError.for_parameter(text, "type", kind)
    if body.get("continue_final_message") and body.get("add_generation_prompt", True):
        raise RefusedError(400, "Cannot set both `continue_final_message` and `add_generation_prompt` to True.")
    n = body.get("n")
    if isinstance(n, int) and n > 1 and body.get("temperature") == 0:
        raise RefusedError(400, f"n must be 1 when using greedy sampling, got {n}.")


def _number_flaw(name: str, value: Any) -> tuple[str, str] | None:
    kind = _NUMBERS[name]
    word, valid, plain = _WORDS[kind]
    if isinstance(value, str) and not _is_numeric(value, kind):
        text = f"Input should be {valid}, unable to parse string as {plain}"
        return _describe_flaw(f"{word}_parsing", f"body.{name}", text, value)
    if isinstance(value, list | dict):
        return _describe_flaw(f"{word}_type", f"body.{name}", f"Input should be {valid}", value)
    return None


def _is_numeric(text: str, kind: type) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True


def _describe_flaw(kind: str, where: str, text: str, given: Any, more: str = "") -> tuple[str, str]:
    """Return (location, the line that describes the error)."""
    value = str(given)
    if isinstance(given, dict | list):
        value = f"<{type(given).__name__} of {len(given)} items>"
    return where, f"{{'type': '{kind}', 'loc': '{where}', 'msg': '{text}', 'input': '{value}'{more}}}"


def _build_refusal(flaws: list[tuple[str, str]]) -> RefusedError:
    head = f"{len(flaws)} validation error{'s' if len(flaws) > 1 else ''}:"
    return RefusedError(400, "\n  ".join([head, *(text for _, text in flaws)]), "Bad Request", flaws[0][0])
