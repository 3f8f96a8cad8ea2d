"""Recorded conversations with real model servers: what was asked, and the bytes that came back.

A file holds one exchange after another: a line `### ` with what curl was given, then the answer as it came.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

FOLDER = Path(__file__).parent.parent / "engines" / "transcripts"
_ENTRY = re.compile(r"^### (.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Recorded:
    """One exchange. `headers` are the answer's, in order and as written; `body` is unframed."""

    method: str
    path: str
    sent: bytes
    version: str
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def name(self) -> str:
        """A short name for a test's id."""
        words = re.sub(r"[^a-z0-9]+", "-", self.sent.decode().lower().replace('"role":"user",', "")).strip("-")
        return f"{self.method} {self.path} {words}".strip()

    @property
    def asked(self) -> Any:
        """The request's JSON, or None when it is none."""
        try:
            return msgspec.json.decode(self.sent)
        except msgspec.DecodeError:
            return None

    @property
    def streamed(self) -> bool:
        return (self.header("content-type") or "").startswith("text/event-stream")

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def events(self) -> list[Any]:
        """The data of each event, decoded where it is JSON."""
        return events(self.body)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)

    def has_whole_body(self) -> bool:
        """False for the few that were recorded in part (metrics)."""
        length = self.header("content-length")
        return length is None or int(length) == len(self.body)


def events(body: bytes) -> list[Any]:
    """The data of each server-sent event in a body, decoded where it is JSON; comments left out."""
    datas = [line.removeprefix(b"data: ") for line in body.split(b"\n") if line.startswith(b"data: ")]
    return [msgspec.json.decode(data) if data.startswith(b"{") else data.decode() for data in datas]


def load(server: str) -> list[Recorded]:
    """All that was recorded of a server: llamacpp, vllm, mlx, transformers or llama-cpp-python."""
    text = (FOLDER / f"{server}.txt").read_text(encoding="utf-8")
    parts = _ENTRY.split(text)[1:]
    return [_recorded(asked, answer) for asked, answer in zip(parts[::2], parts[1::2], strict=True)]


def _recorded(asked: str, answer: str) -> Recorded:
    command, _, sent = asked.partition(" -d ")
    command = re.sub(r" -H \S+ \S+", "", command)
    method = re.search(r"-X (\S+) ", command)
    path = command.split()[-1]
    head, _, body = answer.lstrip("\n").partition("\n\n")
    status_line, *lines = head.split("\n")
    version, status = status_line.split(" ")[:2]
    pairs = [line.partition(":") for line in lines]
    headers = tuple((name, value.strip()) for name, _, value in pairs)
    streamed = "text/event-stream" in head.lower()
    content = body.rstrip("\n") + ("\n\n" if streamed else "")
    return Recorded(
        method=method[1] if method else "POST" if sent else "GET",
        path=path,
        sent=sent.encode(),
        version=version,
        status=int(status),
        headers=headers,
        body=content.encode(),
    )


def shape(value: Any) -> Any:
    """The form of a JSON value: keys in order, types for values, a list's elements without repeats."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return without_repeats([shape(entry) for entry in value])
    if isinstance(value, bool) or value is None:
        return type(value).__name__
    return "number" if isinstance(value, int | float) else "text"


def without_repeats(values: list[Any]) -> list[Any]:
    """A list without elements that equal the one before."""
    return [value for at, value in enumerate(values) if at == 0 or value != values[at - 1]]
