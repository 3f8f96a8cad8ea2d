"""Request fields that several of OpenAI's endpoints have in common."""

import msgspec
from msgspec import Raw

from penstock.dialects.json_body import PositiveInt
from penstock.domain.content import Format, Json, Sampling
from penstock.domain.errors import InvalidRequest, Unsupported

NULL = Raw(b"null")  # default of a field that is kept as JSON
IGNORED_FIELDS = frozenset({"model", "stream"})
"""Fields that a translated request states anyway."""


class StreamOptions(msgspec.Struct):
    """Options of the stream itself."""

    include_usage: bool | None = None


class JsonSchema(msgspec.Struct):
    """A named JSON schema for the response."""

    name: str | None = None
    description: str | None = None
    schema: Raw = NULL
    strict: bool | None = None


class ResponseFormat(msgspec.Struct):
    """text, json_object or json_schema. llama.cpp takes a schema in `schema` beside json_object."""

    type: str = "text"
    json_schema: JsonSchema | None = None
    schema: Raw = NULL


class SamplingFields(msgspec.Struct):
    """Sampling parameters: OpenAI's, and those that vLLM and llama.cpp add."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    repeat_penalty: float | None = None
    n: PositiveInt | None = None


def to_sampling(
    fields: SamplingFields, *, max_tokens: int | None, logprobs: bool, top_logprobs: int | None
) -> Sampling:
    """Return the sampling parameters of a chat or completion request."""
    stop = (fields.stop,) if isinstance(fields.stop, str) else tuple(fields.stop or ())
    repeat = fields.repeat_penalty if fields.repetition_penalty is None else fields.repetition_penalty
    return Sampling(
        max_tokens=max_tokens,
        temperature=fields.temperature,
        top_p=fields.top_p,
        top_k=fields.top_k,
        min_p=fields.min_p,
        seed=fields.seed,
        stop=stop,
        presence_penalty=fields.presence_penalty,
        frequency_penalty=fields.frequency_penalty,
        repeat_penalty=repeat,
        n=fields.n,
        logprobs=logprobs,
        top_logprobs=top_logprobs,
    )


def to_format(field: ResponseFormat | None) -> Format | None:
    """Return the requested format of the response, None for plain text."""
    if field is None or field.type == "text":
        return None
    if field.type == "json_object":
        return Format(schema=to_json(field.schema))
    if field.type != "json_schema":
        raise Unsupported(f"`response_format` of type `{field.type}` cannot be translated.", param="response_format")
    named = field.json_schema
    schema = field.schema if named is None or named.schema == NULL else named.schema
    if named is None or not to_json(schema):
        param = "response_format.json_schema"
        raise InvalidRequest(f"`{param}.schema` is missing. Add this required field.", param=param)
    return Format(
        schema=to_json(schema), name=named.name or "", strict=named.strict, description=named.description or ""
    )


def to_json(raw: Raw) -> Json:
    """Return the JSON of a field, b"" for null."""
    return b"" if raw == NULL else bytes(raw)


def to_inputs(values: str | list[str | int | list[int]], name: str) -> tuple[str | tuple[int, ...], ...]:
    """Return texts and token lists; a single text or a flat list of tokens is one input."""
    if isinstance(values, str):
        return (values,)
    if not values:
        raise InvalidRequest(f"`{name}` must not be empty.", param=name)
    tokens = [value for value in values if isinstance(value, int)]
    if not tokens:
        return tuple(
            value if isinstance(value, str) else tuple(value) for value in values if not isinstance(value, int)
        )
    if len(tokens) < len(values):
        raise InvalidRequest(f"`{name}` must be texts or lists of tokens, not both in one list.", param=name)
    return (tuple(tokens),)
