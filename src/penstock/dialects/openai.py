"""OpenAI's API: chat, completions, embeddings and transcriptions."""

from penstock.dialects.base import Dialect
from penstock.dialects.openai_audio import TranscriptionsEndpoint
from penstock.dialects.openai_chat import ChatEndpoint
from penstock.dialects.openai_completions import CompletionsEndpoint
from penstock.dialects.openai_embeddings import EmbeddingsEndpoint
from penstock.dialects.openai_errors import failure

DIALECT = Dialect(
    name="openai",
    endpoints=(ChatEndpoint(), CompletionsEndpoint(), EmbeddingsEndpoint(), TranscriptionsEndpoint()),
    failure=failure,
    prefixes=("/v1/",),
)
