"""Parsing of Ollama's requests for routing."""

import json

import pytest

from penstock.dialects.ollama import DIALECT
from penstock.domain.errors import InvalidRequest, ModelNotFound, PenstockError, Unsupported
from penstock.domain.request import Operation

WIRES = {endpoint.wire: endpoint for endpoint in DIALECT.endpoints}
CHAT, GENERATE, EMBED = WIRES["ollama.chat"], WIRES["ollama.generate"], WIRES["ollama.embed"]
HELLO = [{"role": "user", "content": "hello"}]


def body(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def test_a_chat_streams_unless_that_is_disabled():
    assert CHAT.parse_request(body(model="m", messages=HELLO), b"").stream
    assert CHAT.parse_request(body(model="m", messages=HELLO, stream=None), b"").stream
    assert not CHAT.parse_request(body(model="m", messages=HELLO, stream=False), b"").stream


def test_the_body_stays_unchanged():
    sent = b'{ "model":"m" , "messages":[{"role":"user","content":"x"}], "unknown": 1 }'
    call = CHAT.parse_request(sent, b"text/plain")
    assert (call.body, call.model, call.wire, call.operation) == (sent, "m", "ollama.chat", Operation.CHAT)


def test_the_token_limit_is_parsed_and_endless_is_none():
    assert CHAT.parse_request(body(model="m", messages=HELLO, options={"num_predict": 7}), b"").max_tokens == 7
    assert CHAT.parse_request(body(model="m", messages=HELLO, options={"num_predict": 7.9}), b"").max_tokens == 7
    assert CHAT.parse_request(body(model="m", messages=HELLO, options={"num_predict": -1}), b"").max_tokens is None
    assert CHAT.parse_request(body(model="m", messages=HELLO, options=None), b"").max_tokens is None


@pytest.mark.parametrize(
    ("sent", "parsed"),
    [
        (b"", "missing request body"),
        (b" \n", "missing request body"),
        (b"{", "unexpected EOF"),
        (b"null", "model is required"),
        (b"{}", "model is required"),
        (b'{"model":""}', "model is required"),
        (b"[1]", "json: cannot unmarshal array into Go value of type api.ChatRequest"),
        (b"x", "invalid character 'x' looking for beginning of value"),
        (b'{"model":"bad name!","messages":[]}', "invalid model name"),
        (b'{"model":5}', "json: cannot unmarshal number into Go struct field ChatRequest.model of type string"),
        (
            b'{"model":"m","options":"x"}',
            "json: cannot unmarshal string into Go struct field ChatRequest.options of type map[string]interface {}",
        ),
        (
            b'{"model":"m","stream":"no"}',
            "json: cannot unmarshal string into Go struct field ChatRequest.stream of type bool",
        ),
        (b'{"model":"m","options":{"num_predict":"x"}}', 'option "num_predict" must be of type integer'),
        (
            b'{"model":' + b"[" * 100_000,
            "json: cannot unmarshal array into Go struct field ChatRequest.model of type string",
        ),
        (b'{"other":' + b"[" * 100_000, "exceeded max depth"),
    ],
    ids=range(15),
)
def test_an_invalid_chat_is_refused_with_ollamas_message(sent: bytes, parsed: str):
    with pytest.raises(InvalidRequest) as raised:
        CHAT.parse_request(sent, b"")
    assert (raised.value.message, raised.value.status) in {(parsed, 400), ("exceeded max depth", 400)}


@pytest.mark.parametrize(
    ("wire", "status", "parsed"),
    [
        ("generate", 404, "model '' not found"),
        ("embed", 404, "model '' not found"),
        ("embeddings", 400, "model is required"),
        ("pull", 400, "invalid model name"),
        ("push", 400, "model is required"),
        ("create", 400, "invalid model name"),
        ("delete", 400, "model is required"),
        ("copy", 400, 'source "" is invalid'),
    ],
)
def test_each_wire_has_its_own_message_for_a_missing_model(wire: str, status: int, parsed: str):
    with pytest.raises(PenstockError) as raised:
        WIRES[f"ollama.{wire}"].parse_request(b"{}", b"")
    assert (raised.value.status, raised.value.message) == (status, parsed)
    assert isinstance(raised.value, ModelNotFound) == (status == 404)


def test_keys_of_another_case_work_as_they_do_in_go():
    call = CHAT.parse_request(b'{"MODEL":"m","Messages":[{"Role":"USER","Content":"hi"}],"STREAM":false}', b"")
    assert (call.model, call.stream, call.flags) == ("m", False, frozenset({"lenient"}))
    assert CHAT.decode_content(call).messages[0].text == "hi"


def test_messages_of_another_case_are_not_a_request_to_load():
    call = CHAT.parse_request(b'{"model":"m","Messages":[{"Role":"user","Content":"hi"}]}', b"")
    assert call.stream
    assert not call.flags & {"load", "unload"}


@pytest.mark.parametrize(
    ("keys", "model"),
    [
        (b'"model":"a","modeL":"b"', "b"),
        (b'"modeL":"b","model":"a"', "a"),
        (b'"model":"a","MODEL":"b","model":"c"', "c"),
        (b'"model":"a","Model":null', "a"),
        (b'"model":"a","mod\\u0045l":"b"', "b"),
        (b'"model":"a","model":"b"', "b"),
    ],
)
def test_of_several_keys_for_one_field_the_last_counts_for_server_and_gateway(keys: bytes, model: str):
    request = CHAT.parse_request(b'{%b,"messages":[{"role":"user","content":"hi"}]}' % keys, b"")
    assert request.model == model
    sent = [(key, value) for key, value in json.loads(request.body, object_pairs_hook=list) if key.lower() == "model"]
    assert sent[-1] == ("model", model)
    assert all(key == "model" for key, _ in sent)
    assert CHAT.decode_content(request).messages[0].text == "hi"


def test_stream_in_capitals_counts_when_it_comes_last():
    assert CHAT.parse_request(b'{"model":"m","messages":[{}],"stream":false,"Stream":true}', b"").stream
    assert not CHAT.parse_request(b'{"model":"m","messages":[{}],"Stream":true,"stream":false}', b"").stream


def test_unknown_fields_are_ignored_and_sent():
    data = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"flavour":{"Model":1}}'
    request = CHAT.parse_request(data, b"")
    assert (request.model, request.body, request.flags) == ("m", data, frozenset())


@pytest.mark.parametrize("endpoint", [CHAT, GENERATE, EMBED])
@pytest.mark.parametrize("text", [b"h\xffi", rb"h\ud83d", rb"\ude00"])
def test_short_texts_that_are_not_unicode_are_read(endpoint, text: bytes):
    data = b'{"model":"m","messages":"%b","prompt":"%b","input":"%b"}' % (text, text, text)
    if endpoint is CHAT:
        data = b'{"model":"m","messages":[{"role":"user","content":"%b"}]}' % text
    request = endpoint.parse_request(data, b"")
    assert request.model == "m"
    assert "\ufffd" in str(endpoint.decode_content(request))


@pytest.mark.parametrize(
    ("endpoint", "message"), [(CHAT, "model is required"), (GENERATE, "model ' ' not found"), (EMBED, "model ' ' not")]
)
def test_a_blank_model_is_none(endpoint, message: str):
    with pytest.raises(PenstockError, match=message):
        endpoint.parse_request(b'{"model":" ","prompt":"x","messages":[{"role":"user","content":"hi"}]}', b"")


def test_bytes_after_the_first_value_are_ignored():
    call = CHAT.parse_request(body(model="m", messages=HELLO) + b' {"model":"n"} garbage', b"")
    assert call.model == "m"
    assert CHAT.decode_content(call).messages[0].text == "hello"


def test_broken_utf8_and_lone_surrogates_become_replacement_characters():
    call = CHAT.parse_request(
        b'{"model":"m","messages":[{"role":"user","content":"a\xffb\\ud800c \\ud83d\\ude00"}]}', b""
    )
    assert CHAT.decode_content(call).messages[0].text == "a\ufffdb\ufffdc \U0001f600"


@pytest.mark.parametrize(
    ("fields", "flag"),
    [
        ({}, "load"),
        ({"messages": []}, "load"),
        ({"messages": None, "keep_alive": 5}, "load"),
        ({"messages": [], "keep_alive": 0}, "unload"),
        ({"messages": [], "keep_alive": "0"}, "unload"),
        ({"messages": [], "keep_alive": "0s"}, "unload"),
        ({"messages": [], "keep_alive": "0m0.0s"}, "unload"),
        ({"messages": [], "keep_alive": -1}, "load"),
    ],
)
def test_a_chat_without_messages_loads_or_unloads_and_never_streams(fields: dict[str, object], flag: str):
    call = CHAT.parse_request(body(model="m", stream=True, **fields), b"")
    assert flag in call.flags
    assert not call.stream


def test_generate_without_a_prompt_loads():
    assert "load" in GENERATE.parse_request(body(model="m", prompt="", system="", options={}), b"").flags
    assert "unload" in GENERATE.parse_request(body(model="m", keep_alive="0s"), b"").flags
    assert not GENERATE.parse_request(body(model="m", prompt="x", keep_alive=0), b"").flags


def test_raw_prompts_and_suffixes_are_completions():
    assert GENERATE.parse_request(body(model="m", prompt="x"), b"").operation is Operation.CHAT
    assert GENERATE.parse_request(body(model="m", prompt="x", suffix=""), b"").operation is Operation.CHAT
    assert GENERATE.parse_request(body(model="m", prompt="x", suffix="y"), b"").operation is Operation.COMPLETION
    assert GENERATE.parse_request(body(model="m", prompt="x", raw=True), b"").operation is Operation.COMPLETION


def test_embeddings_never_stream_and_empty_ones_only_load():
    call = WIRES["ollama.embed"].parse_request(body(model="m", input=["a"], stream=True), b"")
    assert (call.operation, call.stream, call.flags) == (Operation.EMBEDDING, False, frozenset())
    assert "load" in WIRES["ollama.embed"].parse_request(body(model="m", input=[]), b"").flags
    assert "load" in WIRES["ollama.embed"].parse_request(body(model="m", prompt="not a field here"), b"").flags
    assert "load" in WIRES["ollama.embeddings"].parse_request(body(model="m", prompt=""), b"").flags


def test_management_goes_to_ollama_once_and_may_name_its_server():
    call = WIRES["ollama.pull"].parse_request(body(name="m", server="gpu"), b"")
    assert (call.model, call.server, call.stream) == ("m", "gpu", True)
    assert (call.operation, call.kinds) == (Operation.MANAGE, ("ollama",))
    assert not WIRES["ollama.copy"].parse_request(body(source="a", destination="b"), b"").stream
    with pytest.raises(Unsupported, match="/api/pull"):
        WIRES["ollama.pull"].decode_content(call)


def test_copy_needs_both_names():
    with pytest.raises(InvalidRequest, match='destination "" is invalid'):
        WIRES["ollama.copy"].parse_request(body(source="a"), b"")
    assert WIRES["ollama.copy"].parse_request(body(Source="a", Destination="b"), b"").model == "a"


def test_delete_is_a_delete_with_a_body():
    assert WIRES["ollama.delete"].method == "DELETE"
    assert WIRES["ollama.delete"].parse_request(body(name="m"), b"").model == "m"


def test_names_of_other_engines_models_pass():
    for name in ("auto:fast", "meta-llama/Meta-Llama-3.1-8B", "/models/My Model.gguf", "модель:8b", " m "):
        assert CHAT.parse_request(body(model=name, messages=HELLO), b"").model == name.strip()


def test_no_two_endpoints_have_the_same_path():
    claims = [(endpoint.method, path) for endpoint in DIALECT.endpoints for path in endpoint.paths]
    assert len(set(claims)) == len(claims) == 9
    assert all(path.startswith(DIALECT.prefixes) for _, path in claims)
