"""The log lines of discovery."""

import logging
from collections.abc import Iterable, Sequence

from penstock.control.discovery.watched_server import WatchedServer
from penstock.domain.errors import PenstockError
from penstock.domain.fleet import ServerStatus, State
from penstock.domain.model_names import normalize_model_name

log = logging.getLogger("penstock.control.discovery.watcher")


class DiscoveryLog:
    """Writes a summary once all servers have been probed, then one line for each change of state."""

    def __init__(self) -> None:
        self.has_summary = False

    def log_start(self, titles: Iterable[str]) -> None:
        """Log which engines are searched for."""
        log.info("Discovering %s servers and models...", ", ".join(titles) or "model")

    def log_summary(self, fleet: Sequence[ServerStatus]) -> None:
        """Log the result of the first probes, one line for each server."""
        self.has_summary = True
        for status in fleet:
            if status.state is State.DOWN:
                _warn_of_unreachable(status)
            else:
                _log_found(status)
        up = [status for status in fleet if status.is_up]
        names = {normalize_model_name(model.name) for status in up for model in status.models}
        log.info("Discovery complete: %d/%d servers available, %d unique models", len(up), len(fleet), len(names))

    def log_state_change(self, previous: ServerStatus, status: ServerStatus) -> None:
        """Log one line if the state differs from the previous one, unless the summary will contain it."""
        if not self.has_summary or previous.state is status.state:
            return
        name = status.server.name
        if previous.state is State.UNKNOWN and status.state is State.DOWN:
            _warn_of_unreachable(status)
        elif previous.state is State.UNKNOWN:
            _log_found(status)
        elif status.state is State.DOWN:
            log.warning("Server %s is down: %s.", name, status.error.removesuffix("."))
        elif status.state is State.LOADING:
            log.info("Server %s is loading a model.", name)
        else:
            log.info("Server %s is %s: %s.", name, _describe_return(previous), _describe_size(status))

    def log_join(self, status: ServerStatus) -> None:
        """Log that a server which no setting names has become part of the fleet, and how to keep it out."""
        server = status.server
        if server.name == "localhost" and not server.is_simulated:
            log.info(
                "Server %s (%s) joins: it answers here, and no setting names it. To keep it out, set "
                "include_localhost: false in llm.providers.%s.",
                server.name,
                status.url,
                server.kind,
            )

    def log_unexpected_error(self, watched: WatchedServer, error: Exception | None) -> None:
        """Log an unexpected probe error once, with its traceback."""
        if error is None or isinstance(error, PenstockError):
            watched.unexpected_error = ""
            return
        description = f"{type(error).__name__}: {error}"
        if description != watched.unexpected_error:
            watched.unexpected_error = description
            log.error("The probe of server %s failed: %s.", watched.server.name, description, exc_info=error)


def _log_found(status: ServerStatus) -> None:
    log.info("Server %s (%s): %s", status.server.name, status.url, _describe_size(status))


def _warn_of_unreachable(status: ServerStatus) -> None:
    server = status.server
    setting = server.setting or "its address in the settings (`penstock check-config` shows it)"
    line = "Server %s (%s) does not answer: %s. Check that it runs, and %s."
    log.warning(line, server.name, ", ".join(server.urls), status.error.removesuffix("."), setting)


def _describe_return(previous: ServerStatus) -> str:
    return "up again" if previous.state is State.DOWN else "ready"


def _describe_size(status: ServerStatus) -> str:
    models = "1 model" if len(status.models) == 1 else f"{len(status.models)} models"
    return f"{models}, {status.response_time * 1000:.0f}ms"
