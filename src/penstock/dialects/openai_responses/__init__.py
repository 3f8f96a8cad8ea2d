"""OpenAI's Responses API without stored state: every request must send its complete conversation."""

from penstock.dialects.base import Dialect
from penstock.dialects.openai.errors import render_error
from penstock.dialects.openai_responses.endpoints import ResponsesEndpoint

DIALECT = Dialect(
    name="openai.responses",
    endpoints=(ResponsesEndpoint(),),
    render_error=render_error,
    prefixes=("/v1/responses",),
)
