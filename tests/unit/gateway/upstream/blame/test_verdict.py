"""Verdicts on failed attempts: real servers' words, and what follows from other servers' results."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import engines
from penstock.domain.errors import (
    BodyTooLarge,
    ClientGone,
    ClientStalled,
    ConnectFailed,
    ContextLengthExceeded,
    InvalidRequest,
    ModelNotFound,
    PenstockError,
    RequestRefused,
    ShuttingDown,
    Unsupported,
    UpstreamCut,
    UpstreamError,
    UpstreamGarbage,
    UpstreamStatus,
    UpstreamTimeout,
)
from penstock.domain.fault import Fault
from penstock.gateway.upstream.blame.verdict import History, judge_failure

ENGINES = engines.load()
NESTED = '{"error":{"code":%d,"message":"%s","type":"%s"}}'

# status and text of `error`, as Ollama 0.33 says them
OLLAMA_WORDS = [
    (500, 'option "temperature" must be of type float32', Fault.REQUEST),
    (500, 'option "stop" must be of type array', Fault.REQUEST),
    (500, 'option "use_mmap" must be of type boolean', Fault.REQUEST),
    (500, 'option "num_ctx" must be of type integer', Fault.REQUEST),
    (500, 'option "stop" must be of type an array of strings', Fault.REQUEST),
    (500, 'invalid format: "\\"xml\\""; expected "json" or a valid JSON Schema object', Fault.REQUEST),
    (500, 'invalid format: "5"; expected "json" or a valid JSON Schema object', Fault.REQUEST),
    (500, "template: :1: unclosed action", Fault.REQUEST),
    (400, "template error: template: :1: unclosed action", Fault.REQUEST),
    (500, 'unknown renderer "nope"', Fault.REQUEST),
    (500, NESTED % (500, "tools param requires --jinja flag", "server_error"), Fault.REQUEST),
    (500, "tools param requires --jinja flag", Fault.REQUEST),
    (500, "json: cannot unmarshal number into Go value of type []string", Fault.REQUEST),
    (500, "quantization is only supported for F16, BF16 and F32 models", Fault.REQUEST),
    (500, "pull model manifest: file does not exist", Fault.REQUEST),
    (500, "pull model manifest: Get …: dial tcp 127.0.0.1:1: connect: connection refused", Fault.REQUEST),
    (500, "open …/manifests/registry.ollama.ai/library/nope/latest: no such file or directory", Fault.REQUEST),
    (400, "Value looks like object, but can't find closing '}' symbol", Fault.REQUEST),
    (500, "Value looks like object, but can't find closing '}' symbol", Fault.REQUEST),
    (400, NESTED % (400, "penalty_repeat must be finite and greater than 0", "invalid_request_error"), Fault.REQUEST),
    (400, 'time: missing unit in duration "5"', Fault.REQUEST),
    (400, "illegal base64 data at input byte 0", Fault.REQUEST),
    (400, "model is required", Fault.REQUEST),
    (500, "the input length exceeds the context length", Fault.DEPLOYMENT),
    (
        400,
        NESTED
        % (400, "request (26528 tokens) exceeds the available context size (16384)", "exceed_context_size_error"),
        Fault.DEPLOYMENT,
    ),
    (400, '"m" does not support thinking', Fault.DEPLOYMENT),
    (400, "registry.ollama.ai/library/m:latest does not support tools", Fault.DEPLOYMENT),
    (500, "This server does not support embeddings. Start it with `--embeddings`", Fault.DEPLOYMENT),
    (
        500,
        NESTED % (500, "image input is not supported - hint: you may need to provide the mmproj", "server_error"),
        Fault.DEPLOYMENT,
    ),
    (404, "model 'x' not found", Fault.DEPLOYMENT),
    (403, "this model requires a subscription, upgrade for access", Fault.DEPLOYMENT),
    (503, "server busy, please try again.  maximum pending requests exceeded", Fault.BUSY),
    (429, "too many requests", Fault.BUSY),
    (401, "unauthorized", Fault.MODEL),
    (403, "", Fault.MODEL),
    (500, "model runner has unexpectedly stopped, this may be due to resource limitations", Fault.MODEL),
    (500, "llama-server process has terminated: exit status 1: jinja", Fault.MODEL),
    (500, "llama-server process has terminated: signal: killed", Fault.MODEL),
    (500, "timed out waiting for llama-server to start - progress 0.00", Fault.MODEL),
    (500, "CUDA error: invalid argument", Fault.MODEL),
    (500, "an error was encountered while running the model: unexpected EOF", Fault.MODEL),
    (500, NESTED % (500, "Compute error.", "server_error"), Fault.MODEL),
    (502, "Bad gateway", Fault.MODEL),
]

# status and body, as vLLM, llama-server, llama-cpp-python, SGLang and transformers say them
JSON_ERROR = {"type": "server_error", "code": 500}
OPENAI_WORDS = [
    (500, JSON_ERROR | {"message": "Failed to parse tool call arguments as JSON: [json.exception.parse_error.101]"}),
    (500, JSON_ERROR | {"message": "[json.exception.type_error.302] type must be string, but is array"}),
    (500, JSON_ERROR | {"message": "[json.exception.out_of_range.403] key 'role' not found"}),
    (500, JSON_ERROR | {"message": "Missing tool call type: {}"}),
    (500, JSON_ERROR | {"message": "Missing 'role' in message: {}"}),
    (500, JSON_ERROR | {"message": "Expected 'tools' to be an array, got {}"}),
    (500, JSON_ERROR | {"message": "Invalid message role: 5"}),
    (500, JSON_ERROR | {"message": "tools param requires --jinja flag"}),
    (500, JSON_ERROR | {"message": "Unsupported tool type: bash"}),
    (500, JSON_ERROR | {"message": "failed to parse grammar"}),
    (500, JSON_ERROR | {"message": "JSON schema conversion failed: Unrecognized schema"}),
    (500, JSON_ERROR | {"message": "Conversation roles must alternate user/assistant/user/assistant/..."}),
    (500, {"message": "1 validation error: {'type': 'float_parsing', 'loc': ('body', 'temperature')}"}),
    (500, {"message": "Expecting value: line 1 column 1 (char 0)", "type": "InternalServerError"}),
    (500, {"message": "jinja2.exceptions.TemplateError: Only user and assistant roles are supported!"}),
    (500, {"message": "temperature must be non-negative", "type": "BadRequestError"}),
    (400, {"message": "temperature must be non-negative", "type": "BadRequestError"}),
    (422, {"message": "x", "type": "BadRequestError"}),
]
OPENAI_FAULTS = [
    (400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set', Fault.DEPLOYMENT),
    (400, "This model's maximum context length is 2048 tokens. However, you requested 3000", Fault.DEPLOYMENT),
    (500, "request (2900 tokens) exceeds the available context size (2048 tokens)", Fault.DEPLOYMENT),
    (501, "The current model does not support audio input.", Fault.DEPLOYMENT),
    (404, "The model `x` does not exist.", Fault.DEPLOYMENT),
    (403, "Content rejected by policy", Fault.DEPLOYMENT),
    (503, "Loading model", Fault.BUSY),
    (503, "Service is overloaded. Please try again later.", Fault.BUSY),
    (529, "Overloaded", Fault.BUSY),
    (429, "", Fault.BUSY),
    (401, "Invalid API key", Fault.MODEL),
    (403, "Invalid API key", Fault.MODEL),
    (403, "", Fault.MODEL),
    (503, "", Fault.MODEL),
    (500, "Internal Server Error", Fault.MODEL),
    (500, "EngineCore encountered an issue. See stack trace (above) for the root cause.", Fault.MODEL),
    (500, "CUDA out of memory while rendering the chat template", Fault.MODEL),
    (502, "Bad Gateway", Fault.MODEL),
]


def judge_response(engine: str, status: int, body: object) -> Fault:
    error = ENGINES[engine].parse_error_response(status, json.dumps(body).encode(), None)
    return judge_failure(error, answered=True)


@pytest.mark.parametrize(("status", "text", "fault"), OLLAMA_WORDS)
def test_ollamas_words(status: int, text: str, fault: Fault):
    assert judge_response("ollama", status, {"error": text}) is fault


@pytest.mark.parametrize("engine", ["vllm", "llamacpp", "openai"])
@pytest.mark.parametrize(("status", "error"), OPENAI_WORDS)
def test_refusals_of_servers_with_openais_api(engine: str, status: int, error: dict[str, object]):
    assert judge_response(engine, status, {"error": error}) is Fault.REQUEST


@pytest.mark.parametrize("engine", ["vllm", "llamacpp", "openai"])
@pytest.mark.parametrize(("status", "message", "fault"), OPENAI_FAULTS)
def test_other_faults_of_servers_with_openais_api(engine: str, status: int, message: str, fault: Fault):
    assert judge_response(engine, status, {"error": {"message": message}}) is fault


@pytest.mark.parametrize(
    ("status", "fault"),
    [(429, Fault.BUSY), (503, Fault.BUSY), (504, Fault.BUSY), (500, Fault.MODEL), (422, Fault.REQUEST)],
)
def test_statuses_of_the_mlx_server(status: int, fault: Fault):
    assert judge_response("mlx", status, {"detail": "no"}) is fault


@pytest.mark.parametrize("history", History)
@pytest.mark.parametrize(
    ("error", "answered", "fault"),
    [
        (ClientGone("gone"), False, Fault.NOBODY),
        (ClientStalled("stalled"), False, Fault.NOBODY),
        (ShuttingDown("stopping"), False, Fault.NOBODY),
        (ConnectFailed("refused"), False, Fault.UNREACHABLE),
        (InvalidRequest("mend it"), False, Fault.REQUEST),
        (RequestRefused("mend it", status=500), True, Fault.REQUEST),
        (BodyTooLarge("too large"), False, Fault.REQUEST),
        (PenstockError("the gateway's own"), False, Fault.REQUEST),
        (Unsupported("cannot"), False, Fault.DEPLOYMENT),
        (ContextLengthExceeded("too long"), True, Fault.DEPLOYMENT),
        (ModelNotFound("which?"), True, Fault.DEPLOYMENT),
        (UpstreamStatus("slow down", status=429), True, Fault.BUSY),
        (UpstreamStatus("server busy", status=503), True, Fault.BUSY),
    ],
)
def test_what_is_known_by_itself_needs_no_history(error: PenstockError, answered: bool, fault: Fault, history: History):
    assert judge_failure(error, answered=answered, history=history) is fault


UNKNOWN = [
    (UpstreamStatus("boom", status=500), True, Fault.MODEL),
    (UpstreamError("wrong key"), True, Fault.MODEL),
    (UpstreamTimeout("silent"), False, Fault.SERVER),
    (UpstreamCut("cut"), False, Fault.SERVER),
    (UpstreamGarbage("garbage"), False, Fault.SERVER),
]


@pytest.mark.parametrize(("error", "answered", "fault"), UNKNOWN)
def test_where_words_are_unknown_history_decides(error: PenstockError, answered: bool, fault: Fault):
    assert judge_failure(error, answered=answered) is fault
    assert judge_failure(error, answered=answered, history=History.INNOCENT) is fault
    assert judge_failure(error, answered=answered, history=History.SAME_SERVER) is Fault.UNPROVEN
    assert judge_failure(error, answered=answered, history=History.OTHER_SERVER) is Fault.UNPROVEN


def test_a_guilty_request_is_refused_at_the_first_servers_word():
    assert judge_failure(UpstreamStatus("boom", status=500), answered=True, history=History.GUILTY) is Fault.REQUEST


@pytest.mark.parametrize(
    ("error", "answered"),
    [
        (UpstreamStatus("Bad Gateway", status=502), True),
        (UpstreamTimeout("silent"), False),
        (UpstreamCut("cut"), False),
        (UpstreamError("wrong key"), True),
    ],
)
def test_a_guilty_request_may_still_meet_a_server_that_fails_by_itself(error: PenstockError, answered: bool):
    assert judge_failure(error, answered=answered, history=History.GUILTY) is Fault.UNPROVEN


def test_failed_management_is_not_charged_to_the_model():
    error = UpstreamStatus("max retries exceeded", status=500)
    assert judge_failure(error, answered=True, is_management=True) is Fault.REQUEST


TEXTS = st.text(max_size=80) | st.sampled_from([text for _, text, _ in OLLAMA_WORDS])


@given(
    st.sampled_from(["ollama", "vllm", "llamacpp", "openai", "mlx", "victoria"]),
    st.integers(300, 599),
    TEXTS,
    st.sampled_from(History),
)
def test_every_error_response_has_a_verdict(engine: str, status: int, text: str, history: History):
    body = json.dumps({"error": {"message": text}}).encode()
    error = ENGINES[engine].parse_error_response(status, body, None)
    fault = judge_failure(error, answered=True, history=history)
    assert fault not in (Fault.NOBODY, Fault.SERVER, Fault.UNREACHABLE)
    if history in (History.SAME_SERVER, History.OTHER_SERVER, History.GUILTY):
        assert not fault.is_charged
    if fault is Fault.REQUEST:
        assert history is History.GUILTY or error.status < 500
    if fault is Fault.MODEL:
        assert error.retryable


@given(st.sampled_from(["ollama", "vllm", "llamacpp"]), st.integers(500, 599), TEXTS)
def test_a_refusal_with_a_servers_status_is_400_and_keeps_it(engine: str, status: int, text: str):
    error = ENGINES[engine].parse_error_response(status, json.dumps({"error": text}).encode(), None)
    if isinstance(error, RequestRefused):
        assert (error.status, error.engine_status, error.code, error.retryable) == (
            400,
            status,
            "invalid_request",
            False,
        )
