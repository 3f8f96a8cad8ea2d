"""`penstock route`: ask the running gateway where it would route a request, and print the explanation."""

import http.client
import sys
from collections.abc import Iterator
from typing import Annotated, TextIO
from urllib.parse import urlsplit

import msgspec
import typer

from penstock.cli.options import FAILURE, USAGE_ERROR, ConfigOption, JsonOption, fail, load_or_exit
from penstock.config.settings import Settings

TIMEOUT = 30.0
"""Seconds within which the gateway must respond."""
MIN_COST_SECONDS = 0.005
"""Seconds below which a reason has no line of its own."""


class RouteError(Exception):
    """The gateway gave no explanation; the message is one sentence, `code` the exit code."""

    def __init__(self, message: str, code: int = FAILURE) -> None:
        super().__init__(message)
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


class _Explanation(msgspec.Struct):
    model: str
    server: str
    reason: str
    candidates: list[_Candidate]
    complexity_level: str | None = None
    task_type: str | None = None
    scores: dict[str, float] | None = None
    requested_model: str | None = None
    warning: str | None = None


class _ErrorBody(msgspec.Struct):
    """Error response of the gateway."""

    error: str


_explanation_decoder = msgspec.json.Decoder(_Explanation)
_error_decoder = msgspec.json.Decoder(_ErrorBody)


def route(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Text of the request; -: read it from standard input.")],
    model: Annotated[str, typer.Option(help="Model name, or auto:fast|balanced|powerful|code.")] = "",
    url: Annotated[str, typer.Option(help="Address of the gateway. Default: from the settings.")] = "",
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> int:
    """Explain where the gateway would route a request.

    Asks the running gateway; nothing is generated. Prints the complexity of the text, the type of task, and every
    candidate with its score, cost in seconds and reasons, best first.

    \b
    Examples:
      penstock route "Объясни паттерн Singleton"
      penstock route --model auto:code --json "Reverse a list in Rust"
      penstock route --url http://gateway:8005 - < question.txt
    """
    try:
        return explain_route(text, model, url or find_gateway_url(load_or_exit(config)), as_json=as_json)
    except RouteError as error:
        fail(str(error), error.code)


def find_gateway_url(settings: Settings) -> str:
    """Return the address at which the gateway of these settings is reached from this machine."""
    listen = settings.server
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(listen.host, listen.host)
    return f"http://[{host}]:{listen.port}" if ":" in host else f"http://{host}:{listen.port}"


def explain_route(text: str, model: str, url: str, *, as_json: bool, target: TextIO | None = None) -> int:
    """Request an explanation from the gateway at `url` and print it; `-` as text reads standard input.

    Return 0. Raises RouteError.
    """
    if text == "-":
        text = sys.stdin.buffer.read().decode("utf-8", "replace")
    if not text.strip():
        raise RouteError(
            'The text is empty. Pass one, as in penstock route "Привет!", or pass - and write it to standard input.',
            USAGE_ERROR,
        )
    body = _request_explanation(url, {"message": text} | ({"model": model} if model else {}))
    write = (target or sys.stdout).write
    if as_json:
        write(msgspec.json.format(body, indent=2).decode() + "\n")
        return 0
    try:
        explanation = _explanation_decoder.decode(body)
    except msgspec.DecodeError:
        raise _build_unknown_server_error(url) from None
    write("".join(f"{line}\n" for line in _format_explanation(explanation)))
    return 0


def _request_explanation(url: str, request: dict[str, str]) -> bytes:
    """Return the body of the gateway's response."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if parts.scheme not in ("http", "https") or not host:
        raise RouteError(f"{url} is not the address of a gateway. Use one such as http://127.0.0.1:8005.", USAGE_ERROR)
    create = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = create(host, port, timeout=TIMEOUT)
    try:
        headers = {"content-type": "application/json"}
        connection.request("POST", f"{parts.path.rstrip('/')}/api/route", msgspec.json.encode(request), headers)
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise RouteError(
            f"No gateway responds at {url} ({reason}). Start one with `penstock serve`, or name another with --url."
        ) from None
    finally:
        connection.close()
    if response.status == 200:
        return body
    try:
        raise RouteError(f"The gateway refused the request ({response.status}): {_error_decoder.decode(body).error}")
    except msgspec.DecodeError:
        raise _build_unknown_server_error(url) from None


def _build_unknown_server_error(url: str) -> RouteError:
    return RouteError(
        f"The server at {url} is not a gateway, or a gateway of another version. Name the right one with --url."
    )


def _format_explanation(explanation: _Explanation) -> Iterator[str]:
    if explanation.requested_model:
        yield f"{'Model':<12}{explanation.requested_model}"
    if explanation.complexity_level:
        yield f"{'Level':<12}{explanation.complexity_level}"
        yield f"{'Task':<12}{explanation.task_type}"
    if explanation.scores:
        yield f"{'Scores':<12}" + "  ".join(f"{level} {score:.1%}" for level, score in explanation.scores.items())
    yield f"{'Choice':<12}{explanation.model} @ {explanation.server}"
    yield f"{'Reason':<12}{explanation.reason}"
    if explanation.warning:
        yield f"{'Warning':<12}{explanation.warning}"
    yield ""
    yield from _format_candidates(explanation.candidates)


def _format_candidates(candidates: list[_Candidate]) -> Iterator[str]:
    """Format a row for each candidate, best first, followed by its reasons; the first is the choice."""
    models = max(len("candidate"), *(len(candidate.model) for candidate in candidates))
    servers = max(len("server"), *(len(candidate.server) for candidate in candidates))
    yield f"  {'candidate':<{models}}  {'server':<{servers}}  {'score':>6}  {'seconds':>8}  standing"
    for index, candidate in enumerate(candidates):
        mark = "*" if index == 0 else " "
        yield (
            f"{mark} {candidate.model:<{models}}  {candidate.server:<{servers}}  {candidate.score:>6.3f}"
            f"  {candidate.cost_seconds:>8.2f}  {candidate.standing}"
        )
        small = []
        for reason in candidate.reasons:
            if abs(reason.cost_seconds) < MIN_COST_SECONDS:
                small.append(reason.text or reason.signal)
            else:
                yield f"    {reason.signal:<10}  {reason.cost_seconds:>+8.2f} s  {reason.text}"
        if small:
            yield f"    {'no cost':<10}  {'':>10}  {', '.join(small)}"
