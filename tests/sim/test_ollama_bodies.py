"""How Ollama reads a request's body, and what it says of a bad one."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.sim import Simulator
from penstock.sim.kinds.ollama.fields import CHAT
from penstock.sim.kinds.ollama.go.decoder import BadBodyError, decode_fields
from penstock.sim.kinds.ollama.go.scanner import parse_first_value
from penstock.sim.kinds.ollama.go.text import find_base64_error, parse_duration
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
        (b'{"model":"a\nb"}', "invalid character '\\n' in string literal"),
        (b"{'model':1}", "invalid character '\\'' looking for beginning of object key string"),
        (b'{"model":"\\x"}', "invalid character 'x' in string escape code"),
        (b'{"model":"\\u12g4"}', "invalid character 'g' in \\u hexadecimal character escape"),
        (b'{"model":trux}', "invalid character 'x' in literal true (expecting 'e')"),
        (b'{"model":-x}', "invalid character 'x' in numeric literal"),
        (b'{"model":1.x}', "invalid character 'x' after decimal point in numeric literal"),
        (b'{"model":1ex}', "invalid character 'x' in exponent of numeric literal"),
        (b'{"model":"m",}', "invalid character '}' looking for beginning of object key string"),
        (b'{"messages":[1,]}', "invalid character ']' looking for beginning of value"),
        (b"\x1f\x8b", "invalid character '\\x1f' looking for beginning of value"),
        ("я".encode(), "invalid character 'Ñ' looking for beginning of value"),
        (b'{"options":' + b"[" * 12000, "invalid character '[' exceeded max depth"),
        (
            b'{"top_logprobs":1.50}',
            "json: cannot unmarshal number 1.50 into Go struct field ChatRequest.top_logprobs of type int",
        ),
        (
            b'{"model":5,"think":"x"}',
            'invalid think value: "x" (must be "high", "medium", "low", "max", true, or false)',
        ),
        (
            b'{"model":5,"stream":"x"}',
            "json: cannot unmarshal number into Go struct field ChatRequest.model of type string",
        ),
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
        (
            {"tools": [{"function": {"parameters": "x"}}]},
            "string into Go struct field ToolFunction.tools.function.parameters of type api.ToolFunctionParameters",
        ),
        (
            {"tools": [{"function": {"parameters": {"required": [5]}}}]},
            "number into Go struct field ToolFunctionParameters.tools.function.parameters.required of type string",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": 5}}]}]},
            "number into Go struct field ChatRequest.messages.tool_calls.function.name of type string",
        ),
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


async def test_a_depth_that_go_accepts_is_read(ollama: Simulator) -> None:
    deep = b'{"a":' * 9000 + b"1" + b"}" * 9000
    body = b'{"model":"gemma3:1b","prompt":"hi","stream":false,"options":%b}' % deep
    assert (await ask(ollama.url, "POST", "/api/generate", body)).status == 200


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (b"h\xff\xfei", "h\ufffd\ufffdi"),
        (b"h\\ud83di", "h\ufffdi"),
        (b"\\ud83d\\ude00", "😀"),
        (b"\\ude00\\ud83d", "\ufffd\ufffd"),
    ],
)
def test_what_is_not_text_becomes_a_replacement_character(text: bytes, read: str) -> None:
    fields = decode_fields(b'{"messages":[{"role":"USER","content":"%b"}]}' % text, CHAT)
    assert fields["messages"] == [{"role": "user", "content": read}]


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


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(VALUES, st.booleans(), st.sampled_from(["", " rest", "]"]))
def test_the_scanner_reads_what_python_writes(value: Any, escaped: bool, rest: str) -> None:
    text = json.dumps(value, ensure_ascii=escaped, indent=1) + (rest or "\n")
    assert parse_first_value(text.encode()) == value


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
    assert parse_duration(f"{number}{unit[0]}") / 1e9 == pytest.approx(number * unit[1])
    assert parse_duration(f"-{number}{unit[0]}") / 1e9 == pytest.approx(-number * unit[1])


@given(st.binary(max_size=30))
def test_what_python_encodes_is_base64(data: bytes) -> None:
    assert find_base64_error(base64.b64encode(data).decode()) is None


@pytest.mark.parametrize(
    ("text", "position"),
    [("!!", 0), ("aGk", 0), ("aGk=x", 4), ("aGkh!", 4), ("a===", 1), ("aG=x", 2), ("aG=", 3), ("YW\nJj", None)],
)
def test_the_first_wrong_byte_of_base64_is_found_where_go_finds_it(text: str, position: int | None) -> None:
    assert find_base64_error(text) == position
