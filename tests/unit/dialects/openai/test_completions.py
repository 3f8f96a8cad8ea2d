"""Raw completions: requests and rendered responses."""

from typing import Any

import msgspec
import pytest

from penstock.dialects.openai.completions import CompletionRenderer, CompletionsEndpoint
from penstock.domain.content import Completion, Format, Sampling
from penstock.domain.errors import InvalidRequest, UpstreamCut
from penstock.domain.provenance import Provenance
from penstock.domain.request import Operation
from penstock.domain.response import Choice, Chunk, Logprob, ModelResponse, Usage

BY = Provenance("r1", created=1_700_000_000.9, model="tiny:latest", requested="tiny")
COMPLETIONS = CompletionsEndpoint()


def decode(**fields: Any) -> Completion:
    content = COMPLETIONS.decode_content(
        COMPLETIONS.parse_request(msgspec.json.encode({"model": "m", "prompt": "a"} | fields), b"")
    )
    assert isinstance(content, Completion)
    return content


def make_renderer(**fields: Any) -> CompletionRenderer:
    body = msgspec.json.encode({"model": "tiny", "prompt": "a"} | fields)
    return COMPLETIONS.create_renderer(COMPLETIONS.parse_request(body, b""), BY)


def render_stream(*chunks: Chunk, **fields: Any) -> list[Any]:
    rendered = make_renderer(stream=True, **fields)
    data = b"".join(rendered.render_chunk(chunk) for chunk in chunks) + rendered.render_end()
    texts = [event.removeprefix("data: ") for event in data.decode().removesuffix("\n\n").split("\n\n")]
    return [text if text == "[DONE]" else msgspec.json.decode(text) for text in texts]


def test_a_request_is_parsed() -> None:
    body = b'{"model":"m","prompt":"a","stream":true,"max_tokens":3,"stream_options":{"include_usage":true}}'
    call = COMPLETIONS.parse_request(body, b"")
    assert (call.wire, call.operation, call.model) == ("openai.completions", Operation.COMPLETION, "m")
    assert (call.stream, call.max_tokens, call.flags, call.body) == (True, 3, {"usage"}, body)


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("a", ("a",)),
        ("", ("",)),
        (["a", "b"], ("a", "b")),
        ([1, 2, 3], ((1, 2, 3),)),
        ([[1, 2], [3]], ((1, 2), (3,))),
        (["a", [1]], ("a", (1,))),
    ],
)
def test_prompts_are_read(prompt: Any, prompts: tuple[Any, ...]) -> None:
    assert decode(prompt=prompt).prompts == prompts


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": 3}, "prompt"),
        ({"prompt": [1.5]}, "prompt[0]"),
        ({"prompt": [["a"]]}, "prompt[0][0]"),
        ({"echo": "yes"}, "echo"),
        ({"logprobs": True}, "logprobs"),
        ({"suffix": 3}, "suffix"),
    ],
)
def test_a_bad_field_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(**fields)
    assert caught.value.param == param


def test_a_missing_prompt_is_named() -> None:
    with pytest.raises(InvalidRequest) as caught:
        COMPLETIONS.parse_request(b'{"model":"m"}', b"")
    assert caught.value.param == "prompt"


@pytest.mark.parametrize(
    ("fields", "read"),
    [
        ({}, Completion(("a",))),
        ({"suffix": "z"}, Completion(("a",), suffix="z")),
        ({"echo": True}, Completion(("a",), echo=True)),
        ({"logprobs": 0}, Completion(("a",), sampling=Sampling(logprobs=True, top_logprobs=0))),
        ({"logprobs": 2}, Completion(("a",), sampling=Sampling(logprobs=True, top_logprobs=2))),
        ({"max_tokens": 4, "stop": "x"}, Completion(("a",), sampling=Sampling(max_tokens=4, stop=("x",)))),
        ({"response_format": {"type": "json_object"}}, Completion(("a",), format=Format())),
        (
            {"best_of": 2, "user": "u", "store": True},
            Completion(("a",), extra=(("best_of", b"2"), ("user", b'"u"'), ("store", b"true"))),
        ),
        ({"stream": True, "stream_options": {"include_usage": True}}, Completion(("a",))),
    ],
)
def test_other_fields_are_read(fields: dict[str, Any], read: Completion) -> None:
    assert decode(**fields) == read


def test_a_stream_has_text_finish_and_done() -> None:
    found = render_stream(Chunk("Hel"), Chunk("lo"), Chunk(finish="length"))
    assert [event["choices"][0]["text"] for event in found[:-1]] == ["Hel", "lo", ""]
    assert [event["choices"][0]["finish_reason"] for event in found[:-1]] == [None, None, "length"]
    assert {(e["id"], e["object"], e["created"], e["model"]) for e in found[:-1]} == {
        ("cmpl-r1", "text_completion", 1_700_000_000, "tiny")
    }
    assert found[-1] == "[DONE]"


def test_usage_comes_last_when_asked_for() -> None:
    found = render_stream(Chunk("a", finish="stop"), Chunk(usage=Usage(1, 2)), stream_options={"include_usage": True})
    assert found[0]["usage"] is None
    assert found[-2]["choices"] == []
    assert found[-2]["usage"]["total_tokens"] == 3


@pytest.mark.parametrize("chunks", [(), (Chunk("a"),)])
def test_an_unfinished_stream_is_finished(chunks: tuple[Chunk, ...]) -> None:
    assert render_stream(*chunks)[-2]["choices"][0]["finish_reason"] == "stop"


def test_thinking_is_not_rendered() -> None:
    assert make_renderer(stream=True).render_chunk(Chunk(thinking="hm")) == b""


def test_logprobs_have_running_offsets() -> None:
    found = render_stream(
        Chunk("ab"),
        Chunk("cd", logprobs=(Logprob("c", -1.0, None, (Logprob("x", -2.0),)), Logprob("d", -1.5))),
        Chunk("e", logprobs=(Logprob("e", -0.5),), finish="stop"),
    )
    assert found[1]["choices"][0]["logprobs"] == {
        "tokens": ["c", "d"],
        "token_logprobs": [-1.0, -1.5],
        "top_logprobs": [{"x": -2.0}, {}],
        "text_offset": [2, 3],
    }
    assert found[2]["choices"][0]["logprobs"]["text_offset"] == [4]


def test_several_texts_have_an_index_each() -> None:
    found = render_stream(Chunk("a"), Chunk("b", choice=1, finish="stop"), Chunk(finish="length"))
    assert [(e["choices"][0]["index"], e["choices"][0]["finish_reason"]) for e in found[:-1]] == [
        (0, None),
        (1, "stop"),
        (0, "length"),
    ]


def test_a_complete_response_is_rendered() -> None:
    answer = ModelResponse((Choice("a", finish="stop"), Choice("b", finish="length")), Usage(1, 2))
    rendered = msgspec.json.decode(make_renderer().render_response(answer, BY))
    assert (rendered["id"], rendered["object"], rendered["model"]) == ("cmpl-r1", "text_completion", "tiny")
    assert rendered["choices"] == [
        {"index": 0, "text": "a", "logprobs": None, "finish_reason": "stop"},
        {"index": 1, "text": "b", "logprobs": None, "finish_reason": "length"},
    ]
    assert rendered["usage"]["total_tokens"] == 3


def test_a_broken_stream_ends_with_the_error() -> None:
    assert (
        make_renderer(stream=True).render_error(UpstreamCut("Gone.")).startswith(b'data: {"error":{"message":"Gone."')
    )


def test_content_types() -> None:
    assert make_renderer(stream=True).content_type.startswith(b"text/event-stream")
    assert make_renderer().content_type == b"application/json"
