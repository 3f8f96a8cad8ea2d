"""OpenAI's API: chat, completions, embeddings and transcriptions."""

from penstock.dialects.base import Dialect
from penstock.dialects.openai.chat.endpoints import ChatEndpoint
from penstock.dialects.openai.completions import CompletionsEndpoint
from penstock.dialects.openai.embeddings import EmbeddingsEndpoint
from penstock.dialects.openai.errors import render_error
from penstock.dialects.openai.transcriptions import TranscriptionsEndpoint

DIALECT = Dialect(
    name="openai",
    endpoints=(ChatEndpoint(), CompletionsEndpoint(), EmbeddingsEndpoint(), TranscriptionsEndpoint()),
    render_error=render_error,
    prefixes=("/v1/",),
)
