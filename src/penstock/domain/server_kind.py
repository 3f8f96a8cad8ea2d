"""Default settings of a kind of model server."""

from dataclasses import dataclass
from typing import Literal

LocalProbe = Literal["always", "unconfigured", "never"]
"""When the default address on this machine is probed: always, only while no settings exist, or never."""


@dataclass(frozen=True, slots=True)
class KindDefaults:
    """Default settings of one kind of model server.

    `port` completes an address without scheme and port (`gpu-box`), `http_port` one without a port
    (`http://gpu-box`). `slots` is the number of requests sent to the server at a time. `api_paths` are the paths that
    people copy along with the address and that are stripped from it. `local_probe` says when a server that is not
    configured is looked for at `default_url`. `url_variables` are the environment variables that set the address; of
    two that are set, the later wins. `min_timeout` is the minimum timeout of a complete response in seconds, unless
    the server has its own timeout.
    """

    port: int
    http_port: int = 80
    slots: int = 2
    api_paths: tuple[str, ...] = ("/v1",)
    local_probe: LocalProbe = "unconfigured"
    url_variables: tuple[str, ...] = ()
    min_timeout: float = 0.0

    @property
    def default_url(self) -> str | None:
        """Return the usual address on this machine, None if the kind has none."""
        return None if self.local_probe == "never" else f"http://localhost:{self.port}"
