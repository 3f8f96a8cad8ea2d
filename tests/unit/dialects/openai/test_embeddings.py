"""Embeddings: requests, and vectors rendered as floats and as base64."""

import base64
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.dialects.openai.embeddings import EmbeddingsEndpoint
from penstock.domain.content import Embedding
from penstock.domain.errors import InvalidRequest, UpstreamCut, UpstreamGarbage
from penstock.domain.provenance import Provenance
from penstock.domain.request import Operation
from penstock.domain.response import ModelResponse, Usage

BY = Provenance("r1", model="bge:latest", requested="bge")
EMBEDDINGS = EmbeddingsEndpoint()
floats = st.floats(width=32, allow_nan=False, allow_infinity=False)


def decode(**fields: Any) -> Embedding:
    content = EMBEDDINGS.decode_content(
        EMBEDDINGS.parse_request(msgspec.json.encode({"model": "m", "input": "a"} | fields), b"")
    )
    assert isinstance(content, Embedding)
    return content


def render(answer: ModelResponse, encoding: str = "float") -> Any:
    body = msgspec.json.encode({"input": "a", "encoding_format": encoding})
    return msgspec.json.decode(
        EMBEDDINGS.create_renderer(EMBEDDINGS.parse_request(body, b""), BY).render_response(answer, BY)
    )


def test_a_request_is_parsed() -> None:
    call = EMBEDDINGS.parse_request(b'{"model":"m","input":"a","encoding_format":"base64"}', b"")
    assert (call.wire, call.operation, call.model) == ("openai.embeddings", Operation.EMBEDDING, "m")
    assert (call.stream, call.flags) == (False, {"base64"})


@pytest.mark.parametrize(
    ("given_", "inputs"),
    [
        ("a", ("a",)),
        (["a", "b"], ("a", "b")),
        ([1, 2], ((1, 2),)),
        ([[1], [2, 3]], ((1,), (2, 3))),
    ],
)
def test_inputs_are_read(given_: Any, inputs: tuple[Any, ...]) -> None:
    assert decode(input=given_).inputs == inputs


@pytest.mark.parametrize(
    ("fields", "read"),
    [
        ({}, Embedding(("a",))),
        ({"encoding_format": "float"}, Embedding(("a",))),
        ({"encoding_format": None}, Embedding(("a",))),
        ({"encoding_format": "base64"}, Embedding(("a",), base64=True)),
        ({"dimensions": 8}, Embedding(("a",), dimensions=8)),
        ({"user": "u"}, Embedding(("a",), options=(("user", b'"u"'),))),
        ({"input_type": "query"}, Embedding(("a",), options=(("input_type", b'"query"'),))),
    ],
)
def test_other_fields_are_read(fields: dict[str, Any], read: Embedding) -> None:
    assert decode(**fields) == read


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{}", "input"),
        (b'{"input":[]}', "input"),
        (b'{"input":3}', "input"),
        (b'{"input":null}', "input"),
        (b'{"input":["a",3]}', "input"),
        (b'{"input":"a","encoding_format":"hex"}', "encoding_format"),
        (b'{"input":"a","dimensions":"8"}', "dimensions"),
        (b'{"input":"a","model":3}', "model"),
    ],
)
def test_a_bad_field_is_named(body: bytes, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        EMBEDDINGS.decode_content(EMBEDDINGS.parse_request(body, b""))
    assert caught.value.param == param


def test_vectors_are_rendered_in_order() -> None:
    assert render(ModelResponse(vectors=((0.5, -1.0), (2.0,)), usage=Usage(7))) == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.5, -1.0]},
            {"object": "embedding", "index": 1, "embedding": [2.0]},
        ],
        "model": "bge",
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }


@given(st.lists(floats, max_size=8))
def test_vectors_are_the_same_in_both_forms(numbers: list[float]) -> None:
    vector = tuple(numbers)
    packed = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    assert render(ModelResponse(vectors=(vector,)), "base64")["data"][0]["embedding"] == packed
    assert render(ModelResponse(vectors=(packed,)), "base64")["data"][0]["embedding"] == packed
    assert render(ModelResponse(vectors=(packed,)))["data"][0]["embedding"] == list(vector)


@pytest.mark.parametrize("vector", ["not base64!", "AAA=", "AAAAAAA="])
def test_an_invalid_vector_is_the_engines_error(vector: str) -> None:
    with pytest.raises(UpstreamGarbage):
        render(ModelResponse(vectors=(vector,)))


def test_an_error_is_a_body() -> None:
    writer = EMBEDDINGS.create_renderer(EMBEDDINGS.parse_request(b'{"input":"a"}', b""), BY)
    assert msgspec.json.decode(writer.render_error(UpstreamCut("Gone.")))["error"]["message"] == "Gone."
    assert writer.content_type == b"application/json"
