"""Levels of thinking effort, by the names that APIs have for them."""

_EFFORTS = {name: name for name in ("none", "minimal", "low", "medium", "high", "max")} | {"xhigh": "max"}


def parse_effort(name: str) -> str:
    """Return the level of a name, `none` for no thinking. An unknown name is one above those that are known."""
    return _EFFORTS.get(name.lower(), "max") if name else ""
