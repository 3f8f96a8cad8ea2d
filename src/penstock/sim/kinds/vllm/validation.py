"""What vLLM refuses before it generates, in the words that its validation has."""

from typing import Any

from penstock.sim.openai_request import BrokenJsonError, parse

_NUMBERS = {
    "temperature": float,
    "top_p": float,
    "max_tokens": int,
    "max_completion_tokens": int,
    "n": int,
    "seed": int,
}
_WORDS = {float: ("float", "a valid number", "a number"), int: ("int", "a valid integer", "an integer")}


class RefusedError(Exception):
    """The request gets an error: status, message, type, param."""

    def __init__(self, status: int, message: str, kind: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.kind, self.param = status, message, kind, param


def validated(raw: bytes, required: str, kind: type) -> dict[str, Any]:
    """The body. Raises RefusedError when it is no object, lacks `required`, or has it or a number in a wrong type."""
    try:
        body = parse(raw)
    except BrokenJsonError as broken:
        reason = "Expecting value" if broken.cut else "Expecting property name enclosed in double quotes"
        context = f", 'ctx': {{'error': '{reason}'}}"
        raise _invalid([_flaw("json_invalid", f"body.{broken.position}", "JSON decode error", {}, context)]) from None
    if not isinstance(body, dict):
        text = "Input should be a valid dictionary or object to extract fields from"
        raise _invalid([_flaw("model_attributes_type", "body", text, body)])
    flaws = []
    if body.get(required) is None:
        flaws.append(_flaw("missing", f"body.{required}", "Field required", body))
    elif not isinstance(body[required], kind):
        flaws.append(_flaw("list_type", f"body.{required}", "Input should be a valid list", body[required]))
    flaws += [flaw for name in _NUMBERS if (flaw := _number_flaw(name, body.get(name)))]
    if flaws:
        raise _invalid(flaws)
    return body


def _number_flaw(name: str, value: Any) -> tuple[str, str] | None:
    kind = _NUMBERS[name]
    word, valid, plain = _WORDS[kind]
    if isinstance(value, str) and not _numeric(value, kind):
        text = f"Input should be {valid}, unable to parse string as {plain}"
        return _flaw(f"{word}_parsing", f"body.{name}", text, value)
    if isinstance(value, list | dict):
        return _flaw(f"{word}_type", f"body.{name}", f"Input should be {valid}", value)
    return None


def _numeric(text: str, kind: type) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True


def _flaw(kind: str, where: str, text: str, given: Any, more: str = "") -> tuple[str, str]:
    """(where, the line that tells of it)"""
    shown = str(given)
    if isinstance(given, dict | list):
        shown = f"<{type(given).__name__} of {len(given)} items>"
    return where, f"{{'type': '{kind}', 'loc': '{where}', 'msg': '{text}', 'input': '{shown}'{more}}}"


def _invalid(flaws: list[tuple[str, str]]) -> RefusedError:
    head = f"{len(flaws)} validation error{'s' if len(flaws) > 1 else ''}:"
    return RefusedError(400, "\n  ".join([head, *(text for _, text in flaws)]), "Bad Request", flaws[0][0])
