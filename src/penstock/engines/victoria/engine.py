"""Victoria, an agent that works on a goal in steps, with an HTTP API of its own (`/run`, `/stream`, `/plan`)."""

from collections.abc import Generator, Mapping
from types import MappingProxyType
from typing import ClassVar

from penstock.domain.content import AgentTask, Content
from penstock.domain.errors import PenstockError, Unsupported
from penstock.domain.fleet import Inventory, Model
from penstock.domain.request import Call, Operation
from penstock.domain.server_kind import KindDefaults
from penstock.engines.base import EngineRequest, FetchRequest, FetchResponse, Headers, ResponseReader, bearer_headers
from penstock.engines.victoria.async_run import RunReader
from penstock.engines.victoria.errors import parse_error_response
from penstock.engines.victoria.inventory import inspect_server
from penstock.engines.victoria.request import build_request
from penstock.engines.victoria.response import TITLE, VictoriaReader


class Victoria:
    """Agent server, whose responses may take minutes."""

    kind: ClassVar[str] = "victoria"
    title: ClassVar[str] = TITLE
    defaults: ClassVar[KindDefaults] = KindDefaults(
        port=8010, local_probe="always", url_variables=("VICTORIA_URL",), min_timeout=600.0
    )
    native_paths: ClassVar[Mapping[str, str]] = MappingProxyType({})
    loads_on_demand: ClassVar[bool] = False
    may_stop_early: ClassVar[bool] = False
    operations: ClassVar[frozenset[Operation]] = frozenset({Operation.AGENT, Operation.CHAT})

    def forward_request(self, call: Call, model: Model) -> EngineRequest:
        """Raise Unsupported: no dialect uses Victoria's wire format."""
        raise Unsupported(f"{TITLE} does not speak {call.wire}. Use another server.")

    def translate_request(self, call: Call, content: Content, model: Model) -> EngineRequest:
        """Build the request for an agent task or a chat."""
        return build_request(call, content)

    def build_continuation(self, call: Call, content: Content, model: Model, sent_text: str) -> EngineRequest | None:
        """Return None: a run cannot be continued."""
        return None

    def create_reader(self, call: Call, content: Content, outgoing: EngineRequest) -> ResponseReader:
        """Create a reader of a run that may have to be polled, or of a response that comes at once."""
        reader = RunReader if outgoing.may_be_polled else VictoriaReader
        return reader(question_is_text=not isinstance(content, AgentTask))

    def create_wire_reader(self, call: Call) -> ResponseReader | None:
        """Return None: no dialect uses this server's wire format."""
        return None

    def parse_error_response(self, status: int, body: bytes, retry_after: float | None) -> PenstockError:
        """Return the error that an error response means."""
        return parse_error_response(status, body, retry_after)

    def inspect_server(self, known_models: tuple[Model, ...]) -> Generator[FetchRequest, FetchResponse, Inventory]:
        """Read its health."""
        return inspect_server()

    def authorization_headers(self, api_key: str) -> Headers:
        """Return a bearer token if there is a key."""
        return bearer_headers(api_key)


ENGINE = Victoria()
