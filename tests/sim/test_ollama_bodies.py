"""How Ollama reads a request's body, and what it says of a bad one."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.sim import Simulator
from penstock.sim.kinds.ollama.fields import CHAT, parse_duration
from penstock.sim.kinds.ollama.go_json import BadBodyError, decode_fields
from tests.sim.client import ask
from tests.sim.conftest import PLAIN, THINKER

HI = [{"role": "user", "content": "hi"}]


async def chat(server: Simulator, **body: Any) -> Any:
    return await ask(server.url, "POST", "/api/chat", {"model": PLAIN, "messages": HI, "stream": False, **body})


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "missing request body"),
        (b"{", "unexpected EOF"),
        (b'{"model":"m","messages":[', "unexpected EOF"),
        (b"null", "model is required"),
        (b"{}", "model is required"),
        (b"x", "invalid character 'x' looking for beginning of value"),
        (b'{"model":x}', "invalid character 'x' looking for beginning of value"),
        (b"{model:1}", "invalid character 'm' looking for beginning of object key string"),
        (b'{"model" 1}', "invalid character '1' after object key"),
        (b'{"model":"a" "b"}', "invalid character '\"' after object key:value pair"),
        (b"[1 2]", "invalid character '2' after array element"),
        (b'"text"', "json: cannot unmarshal string into Go value of type api.ChatRequest"),
    ],
)
async def test_a_bad_body_is_400_in_go_s_words(ollama: Simulator, body: bytes, words: str) -> None:
    answer = await ask(ollama.url, "POST", "/api/chat", body)
    assert (answer.status, answer.error) == (400, words)
    assert answer.header("content-type") == "application/json; charset=utf-8"


@pytest.mark.parametrize("kind", [{}, {"Content-Type": "text/plain"}])
async def test_the_content_type_does_not_matter(ollama: Simulator, kind: dict[str, str]) -> None:
    answer = await ask(ollama.url, "POST", "/api/show", {"model": PLAIN}, headers=kind)
    assert answer.status == 200


async def test_keys_may_be_in_any_case_and_anything_after_the_object_is_ignored(ollama: Simulator) -> None:
    body = b'{"Model":"gemma3:1b","MESSAGES":[{"Role":"user","CONTENT":"hi"}],"stream":false,"nonsense":1} trailing }{'
    answer = await ask(ollama.url, "POST", "/api/chat", body)
    assert answer.status == 200
    assert "hi" in answer.json["message"]["content"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            {"messages": [{"role": "user", "content": []}]},
            "array into Go struct field ChatRequest.messages.content of type string",
        ),
        ({"messages": {}}, "object into Go struct field ChatRequest.messages of type []api.Message"),
        ({"stream": "yes"}, "string into Go struct field ChatRequest.stream of type bool"),
        ({"options": "fast"}, "string into Go struct field ChatRequest.options of type map[string]interface {}"),
        ({"model": 1}, "number into Go struct field ChatRequest.model of type string"),
    ],
)
async def test_a_wrong_type_is_400_with_the_field_s_path(ollama: Simulator, body: dict[str, Any], words: str) -> None:
    answer = await chat(ollama, **body)
    assert (answer.status, answer.error) == (400, f"json: cannot unmarshal {words}")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_ctx": "x"}, 'option "num_ctx" must be of type integer'),
        ({"temperature": "hot"}, 'option "temperature" must be of type float32'),
        ({"use_mmap": 1}, 'option "use_mmap" must be of type boolean'),
        ({"stop": "x"}, 'option "stop" must be of type array'),
    ],
)
async def test_a_wrong_option_is_500(ollama: Simulator, options: dict[str, Any], words: str) -> None:
    answer = await chat(ollama, options=options)
    assert (answer.status, answer.error) == (500, words)


async def test_unknown_options_and_whole_numbers_with_a_fraction_pass(ollama: Simulator) -> None:
    answer = await chat(ollama, options={"nonsense": [], "num_predict": 2.9})
    assert answer.json["eval_count"] == 2


@pytest.mark.parametrize(
    ("think", "status", "words"),
    [
        ("x", 400, 'invalid think value: "x" (must be "high", "medium", "low", "max", true, or false)'),
        (3, 400, 'think must be a boolean or string ("high", "medium", "low", "max", true, or false)'),
        (True, 400, '"gemma3:1b" does not support thinking'),
        ("high", 400, '"gemma3:1b" does not support thinking'),
        (False, 200, ""),
        (None, 200, ""),
    ],
)
async def test_think_is_checked(ollama: Simulator, think: Any, status: int, words: str) -> None:
    answer = await chat(ollama, think=think)
    assert answer.status == status
    if words:
        assert answer.error == words


async def test_more_than_twenty_alternatives_are_refused(ollama: Simulator) -> None:
    answer = await chat(ollama, logprobs=True, top_logprobs=21)
    assert (answer.status, answer.error) == (400, "top_logprobs must be between 0 and 20")


@pytest.mark.parametrize(
    ("keep_alive", "words"),
    [
        ("5", 'time: missing unit in duration "5"'),
        ("x", 'time: invalid duration "x"'),
        (True, "Unsupported type: 'bool'"),
        (5, ""),
        (0.5, ""),
        ("5m", ""),
        ("1h30m", ""),
        (-1, ""),
        ("0", ""),
        (0, ""),
    ],
)
async def test_keep_alive_is_a_number_or_a_go_duration(ollama: Simulator, keep_alive: Any, words: str) -> None:
    answer = await chat(ollama, keep_alive=keep_alive)
    assert answer.status == (400 if words else 200)
    if words:
        assert answer.error == words


@pytest.mark.parametrize("shape", ["", None])
async def test_no_format_is_free_text(ollama: Simulator, shape: Any) -> None:
    answer = await chat(ollama, format=shape)
    assert answer.json["message"]["content"].startswith("You said")


async def test_an_unknown_format_is_500_and_only_after_the_model_was_loaded(ollama: Simulator) -> None:
    answer = await chat(ollama, format="xml")
    assert answer.status == 500
    assert answer.error == 'invalid format: "\\"xml\\""; expected "json" or a valid JSON Schema object'
    assert PLAIN in ollama.speed_model.residents


async def test_an_unknown_model_wins_over_bad_options(ollama: Simulator) -> None:
    answer = await chat(ollama, model="nope", options={"num_ctx": "x"})
    assert answer.status == 404


async def test_thinking_can_be_told_a_level(ollama: Simulator) -> None:
    answer = await chat(ollama, model=THINKER, think="low")
    assert answer.json["message"]["thinking"]


@given(st.binary(max_size=60))
def test_no_bytes_break_the_reader(body: bytes) -> None:
    try:
        fields = decode_fields(body, CHAT)
    except BadBodyError as error:
        assert str(error)  # noqa: PT017  either outcome is right
    else:
        assert set(fields) <= set(CHAT.fields)


@given(st.integers(0, 10**6), st.sampled_from([("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)]))
def test_a_duration_is_read_in_its_unit(number: int, unit: tuple[str, float]) -> None:
    assert parse_duration(f"{number}{unit[0]}") == pytest.approx(number * unit[1])
    assert parse_duration(f"-{number}{unit[0]}") == pytest.approx(-number * unit[1])
