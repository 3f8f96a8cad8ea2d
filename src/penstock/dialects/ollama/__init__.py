"""Ollama's own API, as its clients use it: chat, generate, embed, and model management, which is passed through.

The listings (`tags`, `ps`, `show`, `version`) are not inference; `penstock.api` answers them.
"""

from penstock.dialects.base import Dialect
from penstock.dialects.ollama.endpoints import ChatEndpoint, EmbedEndpoint, GenerateEndpoint, ManageEndpoint
from penstock.dialects.ollama.response import JSON, render_error

DIALECT = Dialect(
    name="ollama",
    endpoints=(
        ChatEndpoint("ollama.chat", ("/api/chat",)),
        GenerateEndpoint("ollama.generate", ("/api/generate",)),
        EmbedEndpoint("ollama.embed", ("/api/embed",)),
        EmbedEndpoint("ollama.embeddings", ("/api/embeddings",)),
        ManageEndpoint("ollama.pull", ("/api/pull",)),
        ManageEndpoint("ollama.push", ("/api/push",)),
        ManageEndpoint("ollama.create", ("/api/create",)),
        ManageEndpoint("ollama.copy", ("/api/copy",)),
        ManageEndpoint("ollama.delete", ("/api/delete",), "DELETE"),
    ),
    render_error=render_error,
    prefixes=("/api/",),
    media_type=JSON,
    keeps_engine_status=True,
)
