"""Rendered responses in Ollama's format."""

import json
import re

import msgspec
import ollama
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.dialects.ollama import DIALECT
from penstock.dialects.ollama.response import ChatRenderer, format_instant, render_error
from penstock.domain.content import ToolCall
from penstock.domain.errors import UpstreamCut
from penstock.domain.provenance import Provenance
from penstock.domain.request import Call, Operation
from penstock.domain.response import Choice, Chunk, Logprob, ModelResponse, ToolDelta, Usage

WIRES = {endpoint.wire: endpoint for endpoint in DIALECT.endpoints}
NOON = 1_787_338_102_123_456_789  # 2026-08-21T18:48:22.123456789Z
PROVENANCE = Provenance("r", created=NOON / 1e9 - 2)


def make_renderer(
    act: str = "chat", *, stream: bool = True, model: str = "llama3.1:8b", now: int = NOON
) -> ChatRenderer:
    call = Call(f"ollama.{act}", Operation.CHAT, model, stream, b"")
    return ChatRenderer(call, Provenance("r", created=now / 1e9 - 2), generate=act == "generate", clock=lambda: now)


def lines(data: bytes) -> list[dict[str, object]]:
    assert data == b"" or data.endswith(b"}\n")
    return [json.loads(line) for line in data.split(b"\n")[:-1]]


def test_a_piece_of_text_is_one_line_in_the_order_of_keys():
    rendered = make_renderer().render_chunk(Chunk("Hi"))
    assert rendered == (
        b'{"model":"llama3.1:8b","created_at":"2026-08-21T18:48:22.123456789Z",'
        b'"message":{"role":"assistant","content":"Hi"},"done":false}\n'
    )
    assert make_renderer("generate").render_chunk(Chunk("Hi")) == (
        b'{"model":"llama3.1:8b","created_at":"2026-08-21T18:48:22.123456789Z","response":"Hi","done":false}\n'
    )


@pytest.mark.parametrize(
    ("fraction", "rendered"),
    [(0, b"22Z"), (500_000_000, b"22.5Z"), (1, b"22.000000001Z"), (120_000, b"22.00012Z")],
)
def test_times_lose_their_trailing_zeros(fraction: int, rendered: bytes):
    now = NOON // 10**9 * 10**9 + fraction
    assert b":48:" + rendered in make_renderer(now=now).render_chunk(Chunk("x"))
    assert format_instant(now).endswith(b":48:" + rendered)


def test_every_line_has_a_fresh_time():
    ticks = iter(range(NOON, NOON + 10**10, 600_000_000))
    call = Call("ollama.chat", Operation.CHAT, "m", True, b"")
    drawing = ChatRenderer(call, PROVENANCE, generate=False, clock=lambda: next(ticks))
    stamps = [line["created_at"] for line in lines(b"".join(drawing.render_chunk(Chunk("x")) for _ in range(4)))]
    assert stamps == sorted(set(stamps))


def test_the_last_line_has_the_reason_and_the_counts_in_order():
    drawing = make_renderer()
    usage = Usage(3, 5, load_seconds=0.25, prompt_seconds=0.5, completion_seconds=1.0, total_seconds=2.0)
    assert drawing.render_chunk(Chunk(finish="length")) == b""
    assert drawing.render_chunk(Chunk(usage=usage)) == b""
    assert drawing.render_end() == (
        b'{"model":"llama3.1:8b","created_at":"2026-08-21T18:48:22.123456789Z",'
        b'"message":{"role":"assistant","content":""},"done":true,"done_reason":"length",'
        b'"total_duration":2000000000,"load_duration":250000000,"prompt_eval_count":3,"prompt_eval_duration":500000000,'
        b'"eval_count":5,"eval_duration":1000000000}\n'
    )


def test_numbers_that_are_zero_are_left_out():
    drawing = make_renderer()
    drawing.render_chunk(Chunk(finish="stop", usage=Usage(0, 5)))
    last = lines(drawing.render_end())[0]
    assert list(last) == ["model", "created_at", "message", "done", "done_reason", "total_duration", "eval_count"]
    assert round(last["total_duration"] / 1e9, 3) == 2


@pytest.mark.parametrize(
    ("finish", "reason"),
    [("stop", "stop"), ("tool_calls", "stop"), ("content_filter", "stop"), ("length", "length"), ("", "stop")],
)
def test_reasons_are_those_that_ollama_has(finish: str, reason: str):
    drawing = make_renderer()
    drawing.render_chunk(Chunk("x", finish=finish))
    assert lines(drawing.render_end())[0]["done_reason"] == reason


def test_thinking_stands_beside_empty_content():
    assert lines(make_renderer().render_chunk(Chunk(thinking="hm")))[0]["message"] == {
        "role": "assistant", "content": "", "thinking": "hm"
    }  # fmt: skip
    line = lines(make_renderer("generate").render_chunk(Chunk(thinking="hm")))[0]
    assert list(line) == ["model", "created_at", "response", "thinking", "done"]


def test_fragments_of_a_tool_call_are_buffered_until_it_is_complete():
    drawing = make_renderer()
    assert drawing.render_chunk(Chunk(tool_calls=(ToolDelta(0, "a", "f"),))) == b""
    assert drawing.render_chunk(Chunk(tool_calls=(ToolDelta(0, arguments='{"x":\n'), ToolDelta(1, "b", "g")))) == b""
    assert drawing.render_chunk(Chunk(tool_calls=(ToolDelta(0, arguments=' "\u2028"}'),))) == b""
    rendered = drawing.render_chunk(Chunk(finish="tool_calls"))
    assert rendered.isascii()
    line = lines(rendered)[0]
    assert line["done"] is False
    assert line["message"] == {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"id": "a", "function": {"index": 0, "name": "f", "arguments": {"x": "\u2028"}}},
            {"id": "b", "function": {"index": 1, "name": "g", "arguments": {}}},
        ],
    }
    assert lines(drawing.render_end())[0]["done_reason"] == "stop"


def test_tool_calls_of_a_stream_without_a_finish_are_sent_at_its_end():
    drawing = make_renderer()
    drawing.render_chunk(Chunk(tool_calls=(ToolDelta(0, "", "f", "{}"),)))
    first, last = lines(drawing.render_end())
    assert re.fullmatch("call_[a-z0-9]{8}", first["message"]["tool_calls"][0]["id"])
    assert (first["done"], last["done"]) == (False, True)


@pytest.mark.parametrize("arguments", ['{"x": ', "[1]", "5", "not JSON"])
def test_a_call_whose_arguments_are_not_an_object_is_text(arguments: str):
    drawing = make_renderer()
    drawing.render_chunk(Chunk(tool_calls=(ToolDelta(0, "a", "f", arguments),)))
    message = lines(drawing.render_chunk(Chunk(finish="length")))[0]["message"]
    assert "tool_calls" not in message
    assert arguments in message["content"]
    assert '"f"' in message["content"]


def test_logprobs_belong_to_their_chunk():
    logprob = Logprob("é", -0.5, (195, 169), (Logprob("e", -1.0),))
    line = lines(make_renderer().render_chunk(Chunk("é", logprobs=(logprob,))))[0]
    top = [{"token": "e", "logprob": -1.0}]
    assert line["logprobs"] == [{"token": "é", "logprob": -0.5, "bytes": [195, 169], "top_logprobs": top}]


def test_only_the_first_choice_is_rendered():
    assert make_renderer().render_chunk(Chunk("second", choice=1)) == b""


def test_a_generate_ends_with_its_context():
    drawing = make_renderer("generate")
    drawing.render_chunk(Chunk(finish="stop", context=(1, 2), usage=Usage(1, 1, total_seconds=1.0)))
    last = lines(drawing.render_end())[0]
    assert last["context"] == [1, 2]
    assert list(last)[:6] == ["model", "created_at", "response", "done", "done_reason", "context"]


def test_a_complete_chat_is_one_object_without_a_newline():
    answer = ModelResponse(
        (Choice("Hi", "hm", (ToolCall("a", "f", '{"x":1}'),), "tool_calls"),), Usage(2, 3, total_seconds=1.0)
    )
    drawing = make_renderer(stream=False)
    assert drawing.content_type == b"application/json; charset=utf-8"
    assert drawing.render_response(answer, PROVENANCE) == (
        b'{"model":"llama3.1:8b","created_at":"2026-08-21T18:48:22.123456789Z","message":{"role":"assistant",'
        b'"content":"Hi","thinking":"hm","tool_calls":[{"id":"a","function":{"index":0,"name":"f",'
        b'"arguments":{"x":1}}}]},"done":true,"done_reason":"stop","total_duration":1000000000,'
        b'"prompt_eval_count":2,"eval_count":3}'
    )


@pytest.mark.parametrize("finish", ["load", "unload"])
def test_loading_is_answered_without_durations(finish: str):
    answer = ModelResponse((Choice(finish=finish),), Usage(1, 1))
    chat = json.loads(make_renderer(stream=False).render_response(answer, PROVENANCE))
    assert list(chat) == ["model", "created_at", "message", "done", "done_reason"]
    assert (chat["message"], chat["done_reason"]) == ({"role": "assistant", "content": ""}, finish)
    generate = json.loads(make_renderer("generate", stream=False).render_response(answer, PROVENANCE))
    assert list(generate) == ["model", "created_at", "response", "done", "done_reason"]


def test_the_official_client_reads_every_line():
    drawing = make_renderer()
    call = ToolDelta(0, "a", "f", '{"x":1}')
    logprobs = (Logprob("a", -1.0),)
    pieces = (Chunk("Hi", "hm", logprobs=logprobs), Chunk(tool_calls=(call,)), Chunk(finish="stop", usage=Usage(1, 2)))
    rendered = b"".join(map(drawing.render_chunk, pieces)) + drawing.render_end()
    first, second, last = (ollama.ChatResponse.model_validate_json(line) for line in rendered.splitlines())
    assert (first.message.content, first.message.thinking, first.logprobs[0].token) == ("Hi", "hm", "a")
    assert second.message.tool_calls[0].function.arguments == {"x": 1}
    assert (last.done, last.done_reason, last.eval_count) == (True, "stop", 2)


def test_the_model_has_the_name_that_the_caller_used():
    assert lines(make_renderer(model='LLAMA "x"').render_chunk(Chunk("x")))[0]["model"] == 'LLAMA "x"'


@settings(deadline=None)
@given(st.text())
def test_any_text_stays_on_one_line_and_is_read_back_unchanged(text: str):
    drawing = make_renderer()
    rendered = drawing.render_chunk(Chunk(text)) or drawing.render_end()
    assert len(rendered.decode().splitlines()) == 1
    assert not re.search("[<>&]", rendered.decode())
    assert json.loads(rendered)["message"]["content"] == text


def test_text_that_utf8_cannot_encode_is_replaced():
    assert lines(make_renderer().render_chunk(Chunk("a\ud800b")))[0]["message"]["content"] == "a?b"


def test_errors_are_a_line_or_a_body():
    error = UpstreamCut("the engine <gave> up")
    body = b'{"error":"the engine \\u003cgave\\u003e up"}'
    assert render_error(error, "request") == body
    assert make_renderer().render_error(error) == body + b"\n"
    assert WIRES["ollama.chat"].render_interruption(error) == body + b"\n"


def test_embeddings_are_rendered_with_their_counts():
    call = Call("ollama.embed", Operation.EMBEDDING, "m", False, b"")
    answer = ModelResponse(vectors=((0.5, -1.0), "AAAAPwAAgL8="), usage=Usage(4, total_seconds=0.5))
    parsed = json.loads(WIRES["ollama.embed"].create_renderer(call, PROVENANCE).render_response(answer, PROVENANCE))
    assert parsed == {
        "model": "m", "embeddings": [[0.5, -1.0], [0.5, -1.0]], "total_duration": 500000000, "prompt_eval_count": 4
    }  # fmt: skip


def test_nothing_to_embed_gives_an_empty_list_and_no_numbers():
    call = Call("ollama.embed", Operation.EMBEDDING, "m", False, b"")
    assert (
        WIRES["ollama.embed"].create_renderer(call, PROVENANCE).render_response(ModelResponse(), PROVENANCE)
        == b'{"model":"m","embeddings":[]}'
    )


def test_the_older_embeddings_are_one_vector_alone():
    call = Call("ollama.embeddings", Operation.EMBEDDING, "m", False, b"")
    drawing = WIRES["ollama.embeddings"].create_renderer(call, PROVENANCE)
    assert drawing.render_response(ModelResponse(vectors=((1.0, 0.25),)), PROVENANCE) == b'{"embedding":[1.0,0.25]}'
    assert drawing.render_response(ModelResponse(), PROVENANCE) == b'{"embedding":[]}'


LAST = (
    b'{"model":"m","created_at":"x","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop",'
    b'"total_duration":3000000000,"load_duration":500000000,"prompt_eval_count":26,"prompt_eval_duration":1000000000,'
    b'"eval_count":7,"eval_duration":1500000000}\n'
)


def test_usage_is_read_from_the_last_line():
    tail = b'ent":"cut"},"done":false}\n' + LAST
    meant = Usage(26, 7, load_seconds=0.5, prompt_seconds=1.0, completion_seconds=1.5, total_seconds=3.0)
    assert WIRES["ollama.chat"].parse_usage(tail, True) == meant
    assert WIRES["ollama.chat"].parse_usage(LAST.strip(), False) == meant
    assert WIRES["ollama.chat"].parse_usage(LAST[40:], True) == meant
    assert WIRES["ollama.chat"].parse_usage(b'{"model":"m","done":false}\n', True) is None
    assert WIRES["ollama.chat"].parse_usage(b"", True) is None


def test_a_response_that_is_not_json_is_distinguished_from_one_without_usage():
    with pytest.raises(msgspec.DecodeError):
        WIRES["ollama.chat"].parse_usage(LAST[:-20], False)
    for body in (b'{"embedding":[1]}', b"null", b'{"eval_count":"many"}'):
        assert WIRES["ollama.chat"].parse_usage(body, False) is None


def test_numbers_in_a_text_are_not_usage():
    text = json.dumps({"response": '"eval_count":99', "done": False}).encode()
    assert WIRES["ollama.generate"].parse_usage(text[1:], True) is None


@pytest.mark.parametrize(
    ("tail", "ended"),
    [
        (LAST, True),
        (LAST[60:], True),
        (b'{"error":"broke"}\n', True),
        (b'{"status":"success"}\n', True),
        (b'{"status":"pulling manifest"}\n', False),
        (b'{"model":"m","message":{"role":"assistant","content":"x"},"done":false}\n', False),
        (LAST[:-20], False),
        (b'{"response":"\\"done\\":true,\\"done_reason\\":","done":false}\n', False),
        (b'se","arguments":{"done":true}}]},"done":false}\n', False),
        (b"", False),
    ],
)
def test_a_stream_has_ended_when_its_last_line_says_so(tail: bytes, ended: bool):
    assert WIRES["ollama.chat"].is_complete(tail) is ended
