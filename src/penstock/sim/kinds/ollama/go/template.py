"""Go templates, checked as far as a simulated server needs: whether each action is closed and each block is ended."""

import re

_OPENING = frozenset(("if", "range", "with", "block", "define"))
_WORD = re.compile(r"[-\s]*(\w*)")


def find_template_error(template: str) -> str:
    """Return what Go's parser reports of a template, empty if nothing."""
    opened, at, line = 0, 0, 1
    while (start := template.find("{{", at)) >= 0:
        line += template.count("\n", at, start)
        end = template.find("}}", start + 2)
        if end < 0:
            return f"template: :{line}: unclosed action"
        action = template[start + 2 : end]
        match = _WORD.match(action)
        word = match[1] if match else ""
        if word in _OPENING:
            opened += 1
        elif word == "end":
            opened -= 1
        elif word == "else" and not opened:
            return f"template: :{line}: unexpected {{{{else}}}}"
        elif not action.strip("- \t\n"):
            return f"template: :{line}: missing value for command"
        if opened < 0:
            return f"template: :{line}: unexpected {{{{end}}}}"
        line += action.count("\n")
        at = end + 2
    line += template.count("\n", at)
    return f"template: :{line}: unexpected EOF" if opened else ""
