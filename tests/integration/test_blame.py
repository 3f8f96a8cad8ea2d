"""Nobody pays for another's mistake: whatever one caller sends, the calls of the others are answered."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest

from penstock.domain.errors import ConnectFailed, UpstreamStatus
from penstock.gateway.upstream.resilience.breaker import NO_PERMITS
from penstock.sim import SimOptions, Simulator
from tests.support.breakers import count_failure
from tests.support.chat_endpoints import CHAT_ENDPOINTS
from tests.support.gateway import RunningGateway, run_gateway, server_settings, wait_until
from tests.support.raw_client import Answer, chat, post
from tests.support.raw_engine import (
    END,
    RawEngine,
    Script,
    Turn,
    chunk,
    chunked_head,
    completion,
    ollama_lines,
    response,
    send_pieces,
    send_pieces_then,
)

OLLAMA_ANSWER = b'{"model":"m","message":{"role":"assistant","content":"good"},"done":true,"done_reason":"stop"}'
CALLERS = 10
CALLS = 8
BAD_CALLS = 25


def error(message: str, status: str = "500 Internal Server Error", kind: str = "server_error") -> bytes:
    """An error response in the format of a server with OpenAI's API, which Ollama's reader understands too."""
    body = {"error": {"code": int(status[:3]), "message": message, "type": kind}}
    return response(msgspec.json.encode(body), status=status)


async def answer_well(turn: Turn) -> None:
    """Answer as Ollama or as a server with OpenAI's API."""
    await turn.send(response(OLLAMA_ANSWER if turn.request.path.startswith("/api") else completion("good")))


def answer_unless_poisoned(act: Callable[[Turn], Awaitable[None]]) -> Script:
    """Answer well, but `act` on requests that contain `poison`."""

    async def script(turn: Turn) -> None:
        await (act(turn) if b"poison" in turn.request.body else answer_well(turn))

    return script


HANGING = "makes the engine hang"
POISONS: dict[str, Script] = {
    "is refused with 500 in known words": send_pieces(
        error("Failed to parse tool call arguments as JSON: [json.exception.parse_error.101] parse error")
    ),
    "is refused with 500 in unknown words": send_pieces(error("boom")),
    "makes the engine cut": send_pieces_then("close"),
    "makes the engine reset": send_pieces_then("reset"),
    "makes the engine send garbage": send_pieces(b"garbage\r\n\r\n"),
    HANGING: Turn.hang,
    "is refused with 400": send_pieces(error("temperature is too high", "400 Bad Request", "BadRequestError")),
    "is too long": send_pieces(
        error("request (9 tokens) exceeds the available context size (8 tokens)", "400 Bad Request")
    ),
    "is forbidden": send_pieces(error("Content rejected by policy", "403 Forbidden")),
    "needs what is not there": send_pieces(
        error("The current model does not support audio input.", "501 Not Implemented")
    ),
}


@contextlib.asynccontextmanager
async def run_poisoned_fleet(kind: str, servers: int, poison: str) -> AsyncIterator[RunningGateway]:
    seconds = 0.5 if poison == HANGING else 5.0
    async with contextlib.AsyncExitStack() as stack:
        started = [
            await stack.enter_async_context(RawEngine(answer_unless_poisoned(POISONS[poison]))) for _ in range(servers)
        ]
        settings = [
            server_settings(f"s{number}", engine.url, kind, first_byte=seconds, idle=seconds, max_concurrent=64)
            for number, engine in enumerate(started)
        ]
        yield await stack.enter_async_context(run_gateway(*settings))


async def send_beside(
    gateway: RunningGateway, bad: Callable[[int], bytes], good: Callable[[int], bytes], check: Callable[[Answer], None]
) -> list[Answer]:
    """Send bad requests by one caller beside the good ones of ten, check all the good answers; the bad answers."""
    numbers = itertools.count()
    is_over = False
    bad_answers: list[Answer] = []

    async def send_good() -> None:
        for _ in range(CALLS):
            check(await gateway.send_request(good(next(numbers))))
            await asyncio.sleep(0.02)

    async def send_bad() -> None:
        while not is_over and len(bad_answers) < BAD_CALLS:
            bad_answers.append(await gateway.send_request(bad(len(bad_answers)), 10.0))

    misuser = asyncio.create_task(send_bad())
    async with asyncio.TaskGroup() as callers:
        for _ in range(CALLERS):
            callers.create_task(send_good())
    is_over = True
    await misuser
    return bad_answers


def check_good(answer: Answer) -> None:
    assert answer.status == 200, answer
    assert b"good" in answer.body


def write_request(name: str, text: str) -> bytes:
    """A request to the surface, with another text."""
    surface = CHAT_ENDPOINTS[name]
    return post(surface.path, surface.body | {"messages": [{"role": "user", "content": text}]})


@pytest.mark.parametrize("poison", POISONS)
@pytest.mark.parametrize(("kind", "name"), [("vllm", "openai"), ("llamacpp", "anthropic"), ("ollama", "ollama")])
@pytest.mark.parametrize(
    ("servers", "is_repeated"), [(1, False), (2, True), (2, False)], ids=["lone", "repeated", "growing"]
)
async def test_no_call_fails_beside_one_callers_poison(
    poison: str, kind: str, name: str, servers: int, is_repeated: bool
):
    async with run_poisoned_fleet(kind, servers, poison) as gateway:
        await send_beside(
            gateway,
            lambda number: write_request(name, "poison" if is_repeated else f"poison {number}"),
            lambda number: write_request(name, f"hello {number}"),
            check_good,
        )
        await gateway.wait_until_idle()
        for number in range(servers):
            check_good(await gateway.send_request(write_request(name, f"again {number}")))


async def test_a_request_that_fails_everywhere_is_refused_at_the_first_servers_word():
    async with (
        RawEngine(answer_unless_poisoned(send_pieces(error("boom")))) as first,
        RawEngine(answer_unless_poisoned(send_pieces(error("boom")))) as second,
        run_gateway(server_settings("a", first.url), server_settings("b", second.url)) as gateway,
    ):
        for _ in range(5):
            answer = await gateway.send_request(write_request("openai", "poison"))
            assert answer.status == 500
            assert "boom" in answer.json["error"]["message"]
        assert len(first.requests) + len(second.requests) == 6
        assert all(state == "closed" for state in gateway.gateway.failover.breakers.list_states().values())
        load = gateway.gateway.catalog.loads
        assert load["a"].last_failed_at == load["b"].last_failed_at == 0.0


async def test_a_server_that_fails_where_another_answers_is_charged_each_time():
    async with (
        RawEngine(send_pieces(error("boom"))) as broken,
        RawEngine(answer_well) as good,
        run_gateway(server_settings("a", broken.url), server_settings("b", good.url, priority="SECONDARY")) as gateway,
    ):
        for _ in range(3):
            check_good(await gateway.send_request(write_request("openai", "hello")))
            gateway.gateway.catalog.loads["a"].last_failed_at = 0.0
        assert gateway.gateway.failover.breakers.list_states()["a", "m"] == "open"


async def test_where_every_request_fails_everywhere_the_servers_are_to_blame():
    async with (
        RawEngine(send_pieces(error("boom"))) as first,
        RawEngine(send_pieces(error("boom"))) as second,
        run_gateway(server_settings("a", first.url), server_settings("b", second.url)) as gateway,
    ):
        for number in range(12):
            assert (await gateway.send_request(write_request("openai", f"hello {number}"))).status == 500
        states = gateway.gateway.failover.breakers.list_states()
        assert states["a", "m"] == states["b", "m"] == "open"
        first.script = answer_well
        for number in range(5):
            check_good(await gateway.send_request(write_request("openai", f"again {number}")))


BAD_OLLAMA_REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "option": ("/api/chat", chat(options={"temperature": "x"})),
    "generate option": ("/api/generate", {"model": "m", "prompt": "hi", "options": {"num_ctx": "x"}}),
    "format": ("/api/chat", chat(format="xml")),
    "number as format": ("/api/generate", {"model": "m", "prompt": "hi", "format": 5}),
}


@pytest.mark.parametrize("request_name", BAD_OLLAMA_REQUESTS)
@pytest.mark.parametrize("servers", [1, 2])
async def test_no_call_fails_beside_mistakes_that_ollama_answers_with_500(request_name: str, servers: int):
    path, body = BAD_OLLAMA_REQUESTS[request_name]
    async with contextlib.AsyncExitStack() as stack:
        sims = [
            await stack.enter_async_context(Simulator(SimOptions.instant("ollama", "m", text="good", slots=64)))
            for _ in range(servers)
        ]
        settings = [server_settings(f"s{number}", sim.url, "ollama") for number, sim in enumerate(sims)]
        gateway = await stack.enter_async_context(run_gateway(*settings))
        answers = await send_beside(
            gateway, lambda _: post(path, body), lambda number: write_request("ollama", f"hi {number}"), check_good
        )
        assert {answer.status for answer in answers} == {500}  # as Ollama itself
        assert all("option" in answer.json["error"] or "format" in answer.json["error"] for answer in answers)
        assert all(state == "closed" for state in gateway.gateway.failover.breakers.list_states().values())


async def test_a_refusal_with_500_is_400_in_other_dialects_than_ollamas():
    refusal = send_pieces(response(b'{"error":"option \\"temperature\\" must be of type float32"}', status="500 Oops"))
    async with RawEngine(refusal) as engine, run_gateway(server_settings("a", engine.url, "ollama")) as gateway:
        answer = await gateway.send_request(write_request("openai", "hi"))
        assert (answer.status, answer.json["error"]["code"]) == (400, "invalid_request")
        assert len(engine.requests) == 1


# A model that repeats itself


def loop_lines(streamed: bool) -> Script:
    """End the response well, but without `done`."""
    lines = ollama_lines("one ", "two ")[:-1]
    if streamed:
        return send_pieces(chunked_head("application/x-ndjson") + b"".join(map(chunk, lines)) + END)
    return send_pieces(response(b'{"model":"m","message":{"role":"assistant","content":"one two "},"done":false}'))


FINISHES: dict[str, tuple[str, dict[str, Any], Callable[[Any], object], object]] = {
    "openai": ("/v1/chat/completions", chat(), lambda body: body["choices"][0]["finish_reason"], "length"),
    "completions": (
        "/v1/completions",
        {"model": "m", "prompt": "hi"},
        lambda body: body["choices"][0]["finish_reason"],
        "length",
    ),
    "responses": ("/v1/responses", {"model": "m", "input": "hi"}, lambda body: body["status"], "incomplete"),
    "anthropic": ("/v1/messages", chat(max_tokens=9), lambda body: body["stop_reason"], "max_tokens"),
    "service": ("/chat", {"message": "hi", "model": "m"}, lambda body: body["status"], "success"),
    "ollama": ("/api/chat", chat(), lambda body: body["done"], False),
}


@pytest.mark.parametrize("name", FINISHES)
async def test_a_model_that_loops_on_ollama_has_finished_in_every_dialect(name: str):
    path, body, find_finish, finish = FINISHES[name]
    if name == "ollama":
        body = body | {"stream": False}
    script = loop_lines(streamed=False)
    if name == "completions":
        script = send_pieces(response(b'{"model":"m","response":"one two ","done":false}'))
    async with RawEngine(script) as engine, run_gateway(server_settings("a", engine.url, "ollama")) as gateway:
        for _ in range(5):
            answer = await gateway.send_request(post(path, body))
            assert answer.status == 200, answer
            assert b"one two" in answer.body
            assert find_finish(answer.json) == finish
        assert len(engine.requests) == 5
        assert gateway.gateway.catalog.loads["a"].last_failed_at == 0.0


@pytest.mark.parametrize(
    ("path", "body", "end"),
    [
        ("/v1/chat/completions", chat(stream=True), b'"finish_reason":"length"'),
        ("/v1/messages", chat(stream=True, max_tokens=9), b'"stop_reason":"max_tokens"'),
        ("/v1/responses", {"model": "m", "input": "hi", "stream": True}, b"response.incomplete"),
        ("/api/chat", chat(stream=True), b"two "),
    ],
)
async def test_a_stream_of_a_model_that_loops_on_ollama_ends_well(path: str, body: dict[str, Any], end: bytes):
    async with (
        RawEngine(loop_lines(streamed=True)) as engine,
        run_gateway(server_settings("a", engine.url, "ollama")) as gateway,
    ):
        answer = await gateway.send_request(post(path, body))
        assert answer.status == 200
        assert answer.complete
        assert end in answer.body.replace(b'": ', b'":')
        assert b"one" in answer.body
        assert b'"error":{' not in answer.body
        assert gateway.gateway.catalog.loads["a"].last_failed_at == 0.0


@pytest.mark.parametrize("then", ["close", "reset"])
async def test_a_connection_that_breaks_is_still_the_servers_fault(then: str):
    head = chunked_head("application/x-ndjson") + b"".join(map(chunk, ollama_lines("one ")[:-1]))
    async with (
        RawEngine(send_pieces_then(then, head)) as engine,
        run_gateway(server_settings("a", engine.url, "ollama")) as gateway,
    ):
        answer = await gateway.send_request(write_request("openai", "hi"))
        assert answer.status == 502
        assert gateway.gateway.catalog.loads["a"].consecutive_failures == 1


async def test_an_end_without_any_text_is_still_the_servers_fault():
    async with (
        RawEngine(send_pieces(chunked_head("application/x-ndjson") + END)) as engine,
        run_gateway(server_settings("a", engine.url, "ollama")) as gateway,
    ):
        assert (await gateway.send_request(post("/v1/chat/completions", chat(stream=True)))).status == 502


# Refusals that another server would not make

REFUSALS = {
    "context": error("request (9 tokens) exceeds the available context size (8 tokens)", "400 Bad Request"),
    "tools": error('"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set', "400 No"),
    "image": error("image input is not supported - hint: you may need to provide the mmproj"),
    "audio": error("The current model does not support audio input.", "501 Not Implemented"),
    "forbidden": error("This model needs a licence", "403 Forbidden"),
}
PARTS = {
    "context": {},
    "forbidden": {},
    "tools": {"tools": [{"type": "function", "function": {"name": "f"}}]},
    "image": {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]},
    "audio": {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": ""}}]}]},
}


@pytest.mark.parametrize("kind", ["vllm", "llamacpp", "openai"])
@pytest.mark.parametrize("refusal", REFUSALS)
async def test_what_one_server_refuses_another_is_asked_for_and_asked_first_the_next_time(refusal: str, kind: str):
    request = post("/v1/chat/completions", chat(**PARTS[refusal]))
    async with (
        RawEngine(send_pieces(REFUSALS[refusal])) as small,
        RawEngine(answer_well) as large,
        run_gateway(
            server_settings("a", small.url, kind), server_settings("b", large.url, kind, priority="SECONDARY")
        ) as gateway,
    ):
        for _ in range(5):
            check_good(await gateway.send_request(request))
        assert len(small.requests) == (5 if refusal == "forbidden" else 1)
        assert gateway.gateway.catalog.loads["a"].last_failed_at == 0.0
        assert gateway.gateway.failover.breakers.list_states()["a", "m"] == "closed"


async def test_a_refusal_that_every_server_makes_is_passed_on():
    async with (
        RawEngine(send_pieces(REFUSALS["context"])) as first,
        RawEngine(send_pieces(REFUSALS["context"])) as second,
        run_gateway(server_settings("a", first.url), server_settings("b", second.url)) as gateway,
    ):
        answer = await gateway.send_request(write_request("openai", "hi"))
        assert (answer.status, answer.json["error"]["code"]) == (400, "context_length_exceeded")
        assert len(first.requests) == len(second.requests) == 1


async def test_a_403_is_passed_on_in_the_engines_words():
    async with (
        RawEngine(send_pieces(REFUSALS["forbidden"])) as engine,
        run_gateway(server_settings("a", engine.url)) as gateway,
    ):
        for _ in range(5):
            answer = await gateway.send_request(write_request("openai", "hi"))
            assert answer.status == 403
            assert "needs a licence" in answer.json["error"]["message"]


# Arguments of tool calls


@pytest.mark.parametrize("arguments", ["", " ", None])
@pytest.mark.parametrize("kind", ["vllm", "llamacpp", "openai", "ollama"])
async def test_empty_arguments_of_an_earlier_tool_call_are_an_empty_object(kind: str, arguments: str | None):
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    quoted = '{"arguments": ""}'
    messages = [
        {"role": "user", "content": quoted},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "done"},
    ]
    async with RawEngine(answer_well) as engine, run_gateway(server_settings("a", engine.url, kind)) as gateway:
        check_good(await gateway.send_request(post("/v1/chat/completions", chat(messages=messages))))
        sent = engine.requests[0].json["messages"]
        assert sent[1]["tool_calls"][0]["function"]["arguments"] == ({} if kind == "ollama" else "{}")
        assert sent[0]["content"] == quoted


# Busy servers

BUSY_OLLAMA = send_pieces(
    response(b'{"error":"server busy, please try again.  maximum pending requests exceeded"}', status="503 Busy")
)


@pytest.mark.parametrize("name", ["ollama", "openai on ollama"])
async def test_a_busy_server_is_asked_again_until_it_has_room_and_no_breaker_opens(name: str):
    async with RawEngine(BUSY_OLLAMA) as engine, run_gateway(server_settings("a", engine.url, "ollama")) as gateway:
        calls = [asyncio.create_task(gateway.send_request(write_request(name, f"hi {n}"), 20.0)) for n in range(8)]
        await wait_until(lambda: len(engine.requests) >= 16)
        engine.script = answer_well
        for answer in await asyncio.gather(*calls):
            check_good(answer)
        assert gateway.gateway.failover.breakers.list_states()["a", "m"] == "closed"


async def test_a_busy_server_is_waited_for_as_long_as_its_caller_allows():
    request = post("/v1/chat/completions", chat(), headers=("x-penstock-max-wait: 0.3",))
    full = send_pieces(error("The server is overloaded.", "503 Busy"))
    async with RawEngine(full) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        answer = await gateway.send_request(request)
        assert answer.status == 503
        assert len(engine.requests) > 1
        assert "overloaded" in answer.json["error"]["message"]
        assert int(answer.headers["retry-after"]) >= 1


async def test_a_busy_server_is_left_for_a_free_one_at_once():
    async with (
        RawEngine(BUSY_OLLAMA) as busy,
        RawEngine(answer_well) as free,
        run_gateway(
            server_settings("a", busy.url, "ollama"), server_settings("b", free.url, "ollama", priority="SECONDARY")
        ) as gateway,
    ):
        check_good(await gateway.send_request(write_request("ollama", "hi")))
        assert len(busy.requests) == 1


async def test_a_short_pause_that_a_server_asks_for_is_waited_for():
    pause = send_pieces(response(b'{"error":"busy"}', status="503 Busy", headers=("Retry-After: 1",)))
    async with RawEngine(pause) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        first = asyncio.create_task(gateway.send_request(write_request("openai", "one")))
        await wait_until(lambda: engine.requests)
        second = asyncio.create_task(gateway.send_request(write_request("openai", "two")))
        engine.script = answer_well
        check_good(await first)
        check_good(await second)
        assert len(engine.requests) == 3


# The last server


@pytest.mark.parametrize("cause", [ConnectFailed("refused"), UpstreamStatus("boom", status=500)])
@pytest.mark.parametrize("then", ["close", "reset"])
async def test_the_last_server_that_can_answer_is_asked_though_its_breaker_is_open(cause: Any, then: str):
    async with (
        RawEngine(answer_well) as back,
        RawEngine(send_pieces_then(then)) as dying,
        run_gateway(
            server_settings("a", back.url, max_concurrent=64), server_settings("b", dying.url, max_concurrent=64)
        ) as gateway,
    ):
        pair = gateway.gateway.failover.breakers.get("a", "m")
        now = asyncio.get_running_loop().time()
        for _ in range(3):
            count_failure(pair, NO_PERMITS, cause, now, answered=isinstance(cause, UpstreamStatus))
        assert not pair.allows(now)
        for answer in await asyncio.gather(*(gateway.send_request(write_request("openai", f"{n}")) for n in range(20))):
            check_good(answer)
        assert pair.is_healthy


async def test_the_last_server_is_asked_beside_a_trial_that_takes_long():
    async with RawEngine(Turn.hang) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        pair = gateway.gateway.failover.breakers.get("a", "m")
        count_failure(pair, NO_PERMITS, ConnectFailed("refused"), 0.0, answered=False)  # long ago
        trial = await gateway.connect_client()
        await trial.send(write_request("openai", "trial"))
        await wait_until(lambda: pair.is_blocked_by_probe(asyncio.get_running_loop().time()))
        engine.script = answer_well
        for number in range(5):
            check_good(await gateway.send_request(write_request("openai", f"{number}")))
        assert pair.is_healthy
        trial.close()
