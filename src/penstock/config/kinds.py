"""Kinds of model server, as the engines declare them; this package knows no engine itself."""

from collections.abc import Mapping
from typing import TypeAlias

from penstock.domain.server_kind import KindDefaults

Kinds: TypeAlias = Mapping[str, KindDefaults]
"""Default settings by kind."""

MODE_KINDS = ("ollama", "vllm")
"""Kinds that `llm.mode` can select."""
URL_KEYS: Mapping[str, str] = {"ollama": "base_url"}
"""Key of a main server's address, where it is not `url`."""


def sort_kinds(kinds: Kinds) -> Kinds:
    """Return the kinds in the order of their servers: those of `llm.mode` first, then by name."""
    others = sorted(kind for kind in kinds if kind not in MODE_KINDS)
    return {kind: kinds[kind] for kind in (*MODE_KINDS, *others) if kind in kinds}
