"""Ollama's model names: `[scheme://][host/][namespace/]model[:tag]`, and `:local` or `:cloud` after them."""

import re
from dataclasses import dataclass, replace
from typing import Literal

from penstock.sim.kinds.ollama.go.text import quote_text

HOST = "registry.ollama.ai"
NAMESPACE = "library"
_MISSING = "!MISSING!"  # of no valid name
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}")
_SPACE = " \t\n\v\f\r\x85\xa0"

Source = Literal["", "local", "cloud"]


@dataclass(frozen=True, slots=True)
class Name:
    """A name with its defaults filled in; not necessarily a valid one."""

    host: str
    namespace: str
    model: str
    tag: str
    scheme: str = "https"

    @property
    def full(self) -> str:
        """The full name, such as `registry.ollama.ai/library/m:latest`."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    @property
    def display(self) -> str:
        """The name in lists: default host and namespace omitted, the tag always present."""
        short = f"{self.model}:{self.tag}"
        if self.host.lower() != HOST:
            return f"{self.host}/{self.namespace}/{short}"
        return short if self.namespace.lower() == NAMESPACE else f"{self.namespace}/{short}"

    @property
    def is_valid(self) -> bool:
        return bool(
            _HOST.fullmatch(self.host)
            and _NAMESPACE.fullmatch(self.namespace)
            and _PART.fullmatch(self.model)
            and _PART.fullmatch(self.tag)
        )

    def adopt_spelling(self, other: "Name") -> "Name":
        """Take over each part that differs from the other name's in case only."""
        parts = {
            part: getattr(other, part)
            for part in ("host", "namespace", "model", "tag")
            if getattr(other, part).lower() == getattr(self, part).lower()
        }
        return replace(self, **parts)


class BadNameError(ValueError):
    """A text names no model; `reason` is `required`, `conflict` or `unqualified`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Reference:
    """A model as a request names it: where it is wanted from, and its name without that suffix."""

    base: str
    source: Source
    name: Name


def parse_name(text: str) -> Name:
    """Parse a name, valid or not."""
    rest, tag, host, namespace = text, "", "", ""
    if rest.rfind(":") > rest.rfind("/"):
        rest, tag = _cut_last(rest, ":")
    model, scheme = rest, ""
    if "/" in rest:
        rest, model = _cut_last(rest, "/")
        namespace = rest
        if "/" in rest:
            rest, namespace = _cut_last(rest, "/")
            before, separator, after = rest.partition("://")
            host, scheme = (after, before) if separator else (before, "")
    return Name(host or HOST, namespace or NAMESPACE, model, tag or "latest", scheme or "https")


def parse_reference(text: str) -> Reference:
    """Parse the model of a request. Raises BadNameError."""
    base, source = _split_source(text)
    return _name_reference(base, source)


def parse_pulled_reference(text: str) -> Reference:
    """Parse the model to pull or delete, where a cloud model is a name like any other. Raises BadNameError."""
    base, source = _split_source(text)
    if source == "cloud":
        base += "-cloud" if base.rfind(":") > base.rfind("/") else ":cloud"
    return _name_reference(base, source)


def _name_reference(base: str, source: Source) -> Reference:
    name = parse_name(base)
    if not name.is_valid:
        raise BadNameError("unqualified", f"unqualified name: {name.full}")
    return Reference(base, source, name)


def _split_source(text: str) -> tuple[str, Source]:
    text = text.strip(_SPACE)
    if not text:
        raise BadNameError("required", "model is required")
    base, source = _cut_suffix(text)
    if source and _cut_suffix(base)[1]:
        raise BadNameError("conflict", f"use either :local or :cloud, not both: {quote_text(text)}")
    return base, source


def _cut_suffix(text: str) -> tuple[str, Source]:
    before, separator, suffix = text.rpartition(":")
    suffix = suffix.strip(_SPACE)
    if not separator:
        return text, ""
    if suffix.lower() == "cloud":
        return before, "cloud"
    if suffix.lower() == "local":
        return before, "local"
    if "/" not in suffix and suffix.lower().endswith("-cloud"):
        return f"{before}:{suffix[: -len('-cloud')]}", "cloud"
    return text, ""


def _cut_last(text: str, separator: str) -> tuple[str, str]:
    before, _, after = text.rpartition(separator)
    return before or _MISSING, after or _MISSING
