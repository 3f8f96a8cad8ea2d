"""Ollama's model names: `[scheme://][host/][namespace/]model[:tag]`, compared without regard to case."""

import re
from dataclasses import dataclass

HOST = "registry.ollama.ai"
NAMESPACE = "library"
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}")


@dataclass(frozen=True, slots=True)
class Name:
    host: str
    namespace: str
    model: str
    tag: str

    @property
    def full(self) -> str:
        """The full name, such as `registry.ollama.ai/library/m:latest`."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    @property
    def display(self) -> str:
        """The name in lists: default host and namespace omitted, the tag always present."""
        short = f"{self.model}:{self.tag}"
        if self.host != HOST:
            return f"{self.host}/{self.namespace}/{short}"
        return short if self.namespace == NAMESPACE else f"{self.namespace}/{short}"

    @property
    def key(self) -> str:
        return self.full.lower()

    @property
    def is_cloud(self) -> bool:
        return self.tag == "cloud" or self.tag.endswith("-cloud")


def parse_name(text: str) -> Name | None:
    """Parse a model name; return None if it is malformed."""
    rest = text.strip().partition("://")[2] or text.strip()
    *places, last = rest.split("/")
    model, separator, tag = last.partition(":")
    if separator and not tag:
        return None
    host, namespace = HOST, NAMESPACE
    if len(places) == 1:
        namespace = places[0]
    elif len(places) == 2:
        host, namespace = places
    elif places:
        return None
    name = Name(host, namespace, model, tag or "latest")
    well = (
        _HOST.fullmatch(host)
        and _NAMESPACE.fullmatch(namespace)
        and _PART.fullmatch(model)
        and _PART.fullmatch(name.tag)
    )
    return name if well else None
