"""Recorded exchanges with real model servers (`tests/recorded/transcripts`).

A file has one exchange after another: a line `### ` with curl's arguments, then the response as received.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

FOLDER = Path(__file__).parent.parent / "recorded" / "transcripts"
_ENTRY = re.compile(r"^### (.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class RecordedExchange:
    """One exchange. `headers` and `body` are the response's; the body is unframed."""

    method: str
    path: str
    request_body: bytes
    version: str
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def name(self) -> str:
        """Short name for a test id."""
        words = re.sub(r"[^a-z0-9]+", "-", self.request_body.decode().lower().replace('"role":"user",', "")).strip("-")
        return f"{self.method} {self.path} {words}".strip()

    @property
    def request_json(self) -> Any:
        """Decoded request, None if it is not JSON."""
        try:
            return msgspec.json.decode(self.request_body)
        except msgspec.DecodeError:
            return None

    @property
    def is_stream(self) -> bool:
        return (self.header("content-type") or "").startswith("text/event-stream")

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def events(self) -> list[Any]:
        """Data of each event, decoded if it is JSON."""
        return parse_events(self.body)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)

    def has_complete_body(self) -> bool:
        """Return False for the few that were recorded in part (metrics)."""
        length = self.header("content-length")
        return length is None or int(length) == len(self.body)


def parse_events(body: bytes) -> list[Any]:
    """Return the data of each server-sent event in a body, decoded if it is JSON, without comments."""
    datas = [line.removeprefix(b"data: ") for line in body.split(b"\n") if line.startswith(b"data: ")]
    return [msgspec.json.decode(data) if data.startswith(b"{") else data.decode() for data in datas]


def load_transcript(server: str) -> list[RecordedExchange]:
    """Load the exchanges with a server: llamacpp, vllm, mlx, transformers or llama-cpp-python."""
    text = (FOLDER / f"{server}.txt").read_text(encoding="utf-8")
    parts = _ENTRY.split(text)[1:]
    return [_parse_exchange(*pair) for pair in zip(parts[::2], parts[1::2], strict=True)]


def _parse_exchange(arguments: str, response: str) -> RecordedExchange:
    command, _, request_body = arguments.partition(" -d ")
    command = re.sub(r" -H \S+ \S+", "", command)
    method = re.search(r"-X (\S+) ", command)
    path = command.split()[-1]
    head, _, body = response.lstrip("\n").partition("\n\n")
    status_line, *lines = head.split("\n")
    version, status = status_line.split(" ")[:2]
    pairs = [line.partition(":") for line in lines]
    headers = tuple((name, value.strip()) for name, _, value in pairs)
    is_stream = "text/event-stream" in head.lower()
    content = body.rstrip("\n") + ("\n\n" if is_stream else "")
    return RecordedExchange(
        method=method[1] if method else "POST" if request_body else "GET",
        path=path,
        request_body=request_body.encode(),
        version=version,
        status=int(status),
        headers=headers,
        body=content.encode(),
    )


def describe_shape(value: Any) -> Any:
    """Describe the structure of a JSON value: keys in order, types of values, list elements without repeats."""
    if isinstance(value, dict):
        return {key: describe_shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return remove_repeats([describe_shape(entry) for entry in value])
    if isinstance(value, bool) or value is None:
        return type(value).__name__
    return "number" if isinstance(value, int | float) else "text"


def remove_repeats(values: list[Any]) -> list[Any]:
    """Return the list without elements that equal the previous one."""
    return [value for at, value in enumerate(values) if at == 0 or value != values[at - 1]]
