"""`penstock route`: asks the running gateway where a text would go and why, and prints it. Nothing is generated."""

import http.client
import sys
from collections.abc import Iterator
from typing import TextIO
from urllib.parse import urlsplit

import msgspec

TIMEOUT = 30.0
"""Seconds that a gateway has to answer."""
LEAST_SHOWN = 0.005
"""Seconds below which a reason has no line of its own."""


class RouteError(Exception):
    """Why there is no answer, in one line; `code` is the exit code."""

    def __init__(self, line: str, code: int = 1) -> None:
        super().__init__(line)
        self.code = code


class _Reason(msgspec.Struct):
    signal: str
    cost_seconds: float
    text: str = ""


class _Candidate(msgspec.Struct):
    model: str
    server: str
    score: float
    cost_seconds: float
    standing: str = ""
    reasons: list[_Reason] = []
    expected_first_token_seconds: float | None = None


class _Explained(msgspec.Struct):
    model: str
    server: str
    reason: str
    candidates: list[_Candidate]
    complexity_level: str | None = None
    task_type: str | None = None
    scores: dict[str, float] | None = None
    requested_model: str | None = None
    warning: str | None = None


class _Failure(msgspec.Struct):
    """An error as the gateway tells it."""

    error: str


_explained = msgspec.json.Decoder(_Explained)
_failure = msgspec.json.Decoder(_Failure)


def run(text: str, model: str, url: str, *, as_json: bool, target: TextIO | None = None) -> int:
    """Ask the gateway at `url` (`-` as text: standard input) and print its answer; 0. Raises RouteError."""
    if text == "-":
        text = sys.stdin.buffer.read().decode("utf-8", "replace")
    if not text.strip():
        raise RouteError('there is no text: give one, as in penstock route "Привет!", or - and text on its input', 2)
    body = _ask(url, {"message": text} | ({"model": model} if model else {}))
    write = (target or sys.stdout).write
    if as_json:
        write(msgspec.json.format(body, indent=2).decode() + "\n")
        return 0
    try:
        answer = _explained.decode(body)
    except msgspec.DecodeError:
        raise _stranger(url) from None
    write("".join(f"{line}\n" for line in _drawn(answer)))
    return 0


def _ask(url: str, question: dict[str, str]) -> bytes:
    """The gateway's answer."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if parts.scheme not in ("http", "https") or not host:
        raise RouteError(f"{url} is not an address of a gateway: give one such as http://127.0.0.1:8005", 2)
    make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = make(host, port, timeout=TIMEOUT)
    try:
        headers = {"content-type": "application/json"}
        connection.request("POST", f"{parts.path.rstrip('/')}/api/route", msgspec.json.encode(question), headers)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise RouteError(
            f"no gateway answers at {url} ({why}): start one with `penstock serve`, or name another with --url"
        ) from None
    finally:
        connection.close()
    if answer.status == 200:
        return body
    try:
        raise RouteError(f"the gateway says ({answer.status}): {_failure.decode(body).error}")
    except msgspec.DecodeError:
        raise _stranger(url) from None


def _stranger(url: str) -> RouteError:
    return RouteError(f"what answers at {url} is no gateway, or another version of it: name the right one with --url")


def _drawn(answer: _Explained) -> Iterator[str]:
    """The lines."""
    if answer.requested_model:
        yield f"{'Model':<12}{answer.requested_model}"
    if answer.complexity_level:
        yield f"{'Level':<12}{answer.complexity_level}"
        yield f"{'Task':<12}{answer.task_type}"
    if answer.scores:
        yield f"{'Scores':<12}" + "  ".join(f"{level} {score:.1%}" for level, score in answer.scores.items())
    yield f"{'Choice':<12}{answer.model} @ {answer.server}"
    yield f"{'Reason':<12}{answer.reason}"
    if answer.warning:
        yield f"{'Warning':<12}{answer.warning}"
    yield ""
    yield from _table(answer.candidates)


def _table(candidates: list[_Candidate]) -> Iterator[str]:
    """A row for each candidate, best first, and under it its reasons; the first is the choice."""
    models = max(len("candidate"), *(len(candidate.model) for candidate in candidates))
    servers = max(len("server"), *(len(candidate.server) for candidate in candidates))
    yield f"  {'candidate':<{models}}  {'server':<{servers}}  {'score':>6}  {'seconds':>8}  standing"
    for place, candidate in enumerate(candidates):
        mark = "*" if place == 0 else " "
        yield (
            f"{mark} {candidate.model:<{models}}  {candidate.server:<{servers}}  {candidate.score:>6.3f}"
            f"  {candidate.cost_seconds:>8.2f}  {candidate.standing}"
        )
        small = []
        for reason in candidate.reasons:
            if abs(reason.cost_seconds) < LEAST_SHOWN:
                small.append(reason.text or reason.signal)
            else:
                yield f"    {reason.signal:<10}  {reason.cost_seconds:>+8.2f} s  {reason.text}"
        if small:
            yield f"    {'no cost':<10}  {'':>10}  {', '.join(small)}"
