"""Naming rules: the vocabulary of the house, verb phrases for functions, docstrings that open with a verb.

Each function yields `line, message` for one parsed module; `lint.py` runs them over `src`.
"""

import ast
import re
from collections.abc import Iterator

Function = ast.FunctionDef | ast.AsyncFunctionDef

# Words of an earlier private vocabulary, with the field's term for each.
FORBIDDEN = {
    "told": "name the value: failures, headers, sent_text",
    "said": "name the value: sent_text, message",
    "drawn": "rendered",
    "shown": "displayed, rendered, or the name of the value",
    "deaf": "unreachable, or reading_stopped",
    "wary": "tracking",
    "heed": "apply",
    "unheard": "no_response",
    "forgive": "expire",
    "puzzle": "unexpected_error",
    "begun": "started",
    "whole": "complete, response, or Integer",
}
PARTICIPLE = re.compile(
    r"[a-z]+ed|begun|broken|chosen|done|drawn|found|given|gone|heard|held|kept|known|left|lost|made|said|seen|sent|shown"
    r"|spoken|taken|told|understood|worn|written"
)
NOT_PARTICIPLES = frozenset({"embed", "exceed", "feed", "need", "proceed", "seed", "shed", "speed"})
RELATIVE = re.compile(r"(?:How|That|What|When|Where|Whether|Which|Who|Whose)\b")
VAGUE_CONSTANTS = frozenset({"ENOUGH", "LEAST", "LONGEST", "MOST", "PATIENCE"})

MAX_POSITIONAL = 6


def require_plain_vocabulary(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Forbid the words of FORBIDDEN in any name that a module defines."""
    for line, name in _defined_names(tree):
        for word in FORBIDDEN.keys() & set(name.lower().split("_")):
            yield line, f"{name}: {word!r} has no plain meaning here; use {FORBIDDEN[word]}"
        if name in VAGUE_CONSTANTS:
            yield line, f"{name}: say what is limited, and in which unit"


def forbid_participles_as_functions(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Forbid a bare participle as the name of a function: participles name values."""
    for node in ast.walk(tree):
        if isinstance(node, Function) and is_bare_participle(node.name):
            yield node.lineno, f"{node.name}: a function is a verb phrase, a boolean is_/has_/can_"


def forbid_relative_docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Forbid docstrings that open with a relative clause."""
    for node in ast.walk(tree):
        if isinstance(node, Function | ast.ClassDef | ast.Module):
            text = ast.get_docstring(node)
            if text and RELATIVE.match(text):
                yield getattr(node, "lineno", 1), f"the docstring opens with {text.split()[0]!r}: open with a verb"


def limit_positional_arguments(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Forbid calls with more than MAX_POSITIONAL positional arguments."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            count = sum(not isinstance(argument, ast.Starred) for argument in node.args)
            if count > MAX_POSITIONAL:
                yield node.lineno, f"{count} positional arguments, at most {MAX_POSITIONAL}: pass names or an object"


RULES = (require_plain_vocabulary, forbid_participles_as_functions, forbid_relative_docstrings)


def is_bare_participle(name: str) -> bool:
    """Recognise a one-word name that is a past participle, such as `counted` or `shown`."""
    word = name.strip("_")
    if name.startswith("__") or "_" in word or word in NOT_PARTICIPLES:
        return False
    return bool(PARTICIPLE.fullmatch(word))


def _defined_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, Function | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.end_lineno or node.lineno, node.attr
