"""MLX API server: model lists and streams like Ollama's, with the token limit at the top level of the request."""

from collections.abc import Generator, Mapping
from types import MappingProxyType
from typing import ClassVar

from penstock.domain.content import Content
from penstock.domain.errors import PenstockError, Unsupported
from penstock.domain.fleet import Inventory, Model
from penstock.domain.request import Call, Operation
from penstock.domain.server_kind import KindDefaults
from penstock.engines.base import EngineRequest, FetchRequest, FetchResponse, Headers, ResponseReader, bearer_headers
from penstock.engines.mlx.errors import parse_error_response, parse_stream_error
from penstock.engines.mlx.inventory import inspect_server
from penstock.engines.mlx.request import build_request
from penstock.engines.ollama.response import OllamaReader


class Mlx:
    """Server at the address in MLX_API_URL.

    `mlx_lm.server` speaks OpenAI's API and is of kind `openai`. This one completes one prompt and, in
    newer versions, chats. It has no tools, no images and no token counts.
    """

    kind: ClassVar[str] = "mlx"
    title: ClassVar[str] = "MLX API server"
    defaults: ClassVar[KindDefaults] = KindDefaults(
        port=11435, api_paths=("/v1", "/api"), local_probe="always", url_variables=("MLX_API_URL",)
    )
    native_paths: ClassVar[Mapping[str, str]] = MappingProxyType({})
    loads_on_demand: ClassVar[bool] = False
    may_stop_early: ClassVar[bool] = False
    operations: ClassVar[frozenset[Operation]] = frozenset({Operation.CHAT, Operation.COMPLETION, Operation.AGENT})

    def forward_request(self, call: Call, model: Model) -> EngineRequest:
        """Raise Unsupported: no dialect uses this server's wire format."""
        raise Unsupported(f"The {self.title} does not speak {call.wire}. Use another server.")

    def translate_request(self, call: Call, content: Content, model: Model) -> EngineRequest:
        """Build a chat request with a prompt as the fallback for older versions, or a prompt request."""
        return build_request(call, content, model, self.title)

    def build_continuation(self, call: Call, content: Content, model: Model, sent_text: str) -> EngineRequest | None:
        """Return None: the server cannot continue a message."""
        return None

    def create_reader(self, call: Call, content: Content, outgoing: EngineRequest) -> ResponseReader:
        """Create a reader of Ollama's lines; the server labels them as plain JSON."""
        return OllamaReader(self.title, parse_stream_error, streamed=outgoing.stream)

    def create_wire_reader(self, call: Call) -> ResponseReader | None:
        """Return None: no dialect uses this server's wire format."""
        return None

    def parse_error_response(self, status: int, body: bytes, retry_after: float | None) -> PenstockError:
        """Return the error that an error response means; 429, 503 and 504 mean that the server is busy."""
        return parse_error_response(status, body, retry_after, self.title)

    def inspect_server(self, known_models: tuple[Model, ...]) -> Generator[FetchRequest, FetchResponse, Inventory]:
        """Read its health and its models."""
        return inspect_server(self.title)

    def authorization_headers(self, api_key: str) -> Headers:
        """Return a bearer token, for a proxy in front of the server."""
        return bearer_headers(api_key)


ENGINE = Mlx()
