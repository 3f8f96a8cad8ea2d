"""Words of model servers that say whose fault a failure is, whatever its status.

Servers answer 500 to many mistakes of callers: whatever their code raises while it reads a request or renders a chat
template. Only words that cannot speak of the server's own trouble are listed; a failure in other words is judged by
what a second server says to the same request.
"""

import re

_PYTHON_WORDS = (
    # json
    r"Expecting (?:value|property name|',' delimiter|':' delimiter)",
    r"Unterminated string starting at|Extra data: line \d",
    # pydantic
    r"\d+ validation errors?\b|Input should be |Field required|value is not a valid ",
    # Jinja and the chat templates of common models
    r"jinja2\.exceptions|TemplateError|TemplateSyntaxError|[Cc]hat template",
    r"roles must alternate|[Oo]nly user(?:,| and) .*roles are supported|System role not supported",
)
_CPP_WORDS = (
    # nlohmann::json, https://json.nlohmann.me/home/exceptions
    r"\[json\.exception\.\w+\.\d+\]",
    # llama.cpp: common/chat.cpp, common/jinja, common/json-schema-to-grammar.cpp, tools/server/server-common.cpp
    r"[Ff]ailed to parse (?:messages|tools|tool call arguments|grammar)",
    r"(?:Missing|Invalid|Unsupported|Expected|Unknown) (?:'?\w+'? )?'?(?:tool|message|role|content|type\b|part\b)",
    r"unsupported content\[\]\.type|Expected '\w+' to be |'\w+' must be |penalty_\w+ must be",
    r"must be an? (?:array|object|string|number|boolean|integer)\b",
    r"tools param requires --jinja|tool_choice param requires|Cannot use (?:both|custom grammar)",
    r"[Ii]nvalid (?:tool_choice|grammar|schema)|Error resolving ref|Unrecognized schema|JSON schema conversion",
    r"[Jj]inja|raise_exception|While executing \w+ at|Unable to generate parser|All non-assistant messages must",
    r"Value looks like object, but can't find closing|Cannot have 2 or more assistant messages",
)
_GO_WORDS = (
    # Ollama: api/types.go, llm/server.go, server/create.go, text/template, encoding/json
    r'^option ".*" must be of type |^invalid format: |^template: |^template error: |^unknown (?:renderer|parser) ',
    r"^json: (?:cannot unmarshal|unknown field) |^invalid character .* looking for |^unexpected end of JSON input",
    r"^pull model manifest: |^quantization is only |^unsupported (?:quantization|architecture) |^unqualified name: ",
    r"^open .*: no such file or directory$|^digest mismatch|^unknown type$|^input .* cannot be truncated",
    r"^invalid (?:digest|model name|image|duration|keep_alive)|^illegal base64 data",
    r"^time: (?:missing unit|invalid|unknown unit) |^Failed to initialize samplers",
)
# Whatever else a message says, with one of these it speaks of the server.
_find_trouble = re.compile(
    r"\bcuda|\bhip|\brocm|\bnccl|\bmetal\b|out of memory|\boom\b|device|runner|process has terminated|connection|"
    r"timed? ?out|segmentation|signal:|engine (?:is )?(?:dead|core)|EngineDead",
    re.IGNORECASE,
).search


def _compile_words(*words: str) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{word})" for word in words))


_find_refusal = _compile_words(*_CPP_WORDS, *_PYTHON_WORDS).search
_find_go_refusal = _compile_words(*_GO_WORDS).search


def is_refusal(message: str) -> bool:
    """Return whether a server's message says that the request is invalid."""
    return _find_refusal(message) is not None and _find_trouble(message) is None


def is_go_refusal(message: str) -> bool:
    """Return whether the message of a server in Go, with llama-server as its runner, says so."""
    return _find_go_refusal(message) is not None or is_refusal(message)


BUSY_WORDS = re.compile(
    r"\bbusy\b|queue (?:is )?full|queue_full|full queue|pending requests|too many (?:concurrent )?requests|overload|"
    r"at capacity|no (?:free |available )?slots?\b|slot unavailable|rate.?limit|slow down|"
    r"loading model|model is loading",
    re.IGNORECASE,
)
"""Words of a server that is sound and has no room now."""

KEY_WORDS = re.compile(
    r"api.?key|\btokens?\b|credential|unauthori[sz]ed|authenticat|\bsign(?:ed)?.?in\b|\blog ?in\b|bearer", re.IGNORECASE
)
"""Words of a 403 that speaks of the gateway's own access."""
