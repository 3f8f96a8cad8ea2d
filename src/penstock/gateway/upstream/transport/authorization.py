"""Header lines that authorize the gateway at a model server."""

import base64

from penstock.domain.fleet import Server
from penstock.engines.base import Engine


def authorization_headers(server: Server, engine: Engine) -> list[bytes]:
    """Return the header lines for a server's credentials: the engine's own form of an API key, or HTTP Basic."""
    lines = [name + b": " + value for name, value in engine.authorization_headers(server.api_key)]
    if server.credentials:
        lines.append(b"authorization: Basic " + base64.b64encode(server.credentials.encode()))
    return lines
