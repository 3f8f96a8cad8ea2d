"""Names that lists of models have beside the models."""

from tests.support.gateway import run_gateway, server_settings
from tests.support.raw_client import chat, get, post
from tests.support.raw_engine import RawEngine, completion, response, send_pieces

GOOD = send_pieces(response(completion("good")))


async def test_auto_and_aliases_are_listed_where_there_is_a_choice():
    async with (
        RawEngine(GOOD) as engine,
        run_gateway(
            server_settings("one", engine.url), models=("a", "b"), aliases={"gpt-4o": ("a",), "gone": ("x",)}
        ) as gateway,
    ):
        listing = (await gateway.send_request(get("/v1/models"))).json
        assert [model["id"] for model in listing["data"]] == ["a", "b", "gpt-4o", "auto"]
        tags = (await gateway.send_request(get("/api/tags"))).json
        assert [model["name"] for model in tags["models"]] == ["a:latest", "b:latest", "gpt-4o:latest", "auto:latest"]
        assert (await gateway.send_request(get("/v1/models/auto"))).json["id"] == "auto"
        assert (await gateway.send_request(get("/v1/models/gpt-4o"))).json["id"] == "a"
        for name in ("auto", "auto:latest"):
            assert (await gateway.send_request(post("/api/show", {"model": name}))).status == 200
            answer = await gateway.send_request(post("/api/generate", {"model": name}))
            assert answer.status == 200, answer
            answer = await gateway.send_request(post("/v1/chat/completions", chat(model=name)))
            assert answer.status == 200


async def test_auto_is_not_listed_where_there_is_no_choice():
    async with (
        RawEngine(GOOD) as engine,
        run_gateway(server_settings("one", engine.url)) as gateway,
    ):
        listing = (await gateway.send_request(get("/v1/models"))).json
        assert [model["id"] for model in listing["data"]] == ["m"]
        assert (await gateway.send_request(get("/v1/models/auto"))).status == 404
