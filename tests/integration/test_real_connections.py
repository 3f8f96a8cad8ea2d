"""Connections to a server that holds a thread for each, as llama.cpp does: few are kept when they are free."""

import asyncio
from typing import Final

import pytest

from tests.support.gateway import run_gateway, server_settings, wait_until
from tests.support.raw_client import chat, post
from tests.support.raw_engine import RawEngine, Turn, completion, response, send_pieces

CHAT: Final = post("/v1/chat/completions", chat())
MANY: Final = 12


@pytest.mark.parametrize(("headers", "kept"), [((), MANY), (("Keep-Alive: timeout=5, max=100",), 2)])
async def test_a_burst_leaves_few_connections_to_a_server_that_counts_them(headers: tuple[str, ...], kept: int) -> None:
    answer = send_pieces(response(completion(), headers=headers))
    async with RawEngine(answer) as engine, run_gateway(server_settings("a", engine.url)) as gateway:
        all_are_there = asyncio.Event()

        async def together(turn: Turn) -> None:
            await all_are_there.wait()
            await answer(turn)

        engine.script = together
        asked = [asyncio.create_task(gateway.send_request(CHAT)) for _ in range(MANY)]
        await wait_until(lambda: len(engine.requests) == MANY)
        all_are_there.set()
        assert {each.status for each in await asyncio.gather(*asked)} == {200}
        await wait_until(lambda: len(engine.lines) == kept)
        engine.script = answer
        assert (await gateway.send_request(CHAT)).status == 200
        assert engine.accepted == MANY
