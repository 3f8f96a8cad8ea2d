"""OpenAI's API: chat, completions, embeddings and transcriptions."""

from penstock.dialects.base import Dialect
from penstock.dialects.openai_chat import ChatEndpoint
from penstock.dialects.openai_errors import failure

DIALECT = Dialect(
    name="openai",
    endpoints=(ChatEndpoint(),),
    failure=failure,
    prefixes=("/v1/",),
)
