"""Reload of settings while the gateway runs: on SIGHUP and when the file changes; invalid settings are refused."""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import TypeAlias

from penstock.config.errors import SettingsError
from penstock.config.settings import Settings

log = logging.getLogger(__name__)

Stamp: TypeAlias = tuple[int, int, int] | None

RESTART_KEYS = (
    "server.host",
    "server.port",
    "server.max_connections",
    "server.keep_alive",
    "server.log_file",
    "server.log_format",
    "storage.data_dir",
    "storage.database_url",
    "storage.redis_url",
    "auth.secret_key",
    "telemetry.otlp_endpoint",
    "telemetry.service_name",
)
"""Keys that take effect only at a start."""


class Reloader:
    """Watcher of the settings files that applies new settings.

    `load` reads all sources and raises SettingsError; `apply` receives each new Settings. `files` are checked every
    `interval` seconds; `sleep` waits between the checks. `current` are the settings in force.
    """

    def __init__(
        self,
        load: Callable[[], Settings],
        current: Settings,
        apply: Callable[[Settings], None],
        files: Sequence[Path],
        *,
        interval: float = 1.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.current = current
        self._load = load
        self._apply = apply
        self._files = tuple(files)
        self._interval = interval
        self._sleep = sleep
        self._loaded = self._seen = self._read_stamps()

    async def run(self) -> None:
        """Watch until cancelled; also reload on SIGHUP."""
        with self._hangup_signal():
            while True:
                await self._sleep(self._interval)
                self.check_files()

    def check_files(self) -> bool:
        """Reload if a file has changed, once it has not changed for one interval: half a file may be valid but wrong.

        Return True when new settings are in force.
        """
        stamps = self._read_stamps()
        is_settled, self._seen = stamps == self._seen, stamps
        if stamps == self._loaded or not is_settled:
            return False
        self._loaded = stamps
        if not any(stamps):
            log.warning("The settings file is gone. The current settings stay in force.")
            return False
        return self.reload("the file changed")

    def reload(self, cause: str) -> bool:
        """Read all sources again; return True when new settings are in force."""
        try:
            settings = self._load()
        except SettingsError as error:
            for problem in error.errors:
                log.error("Settings: %s", problem)
            log.error(
                "Settings not reloaded (%s). Correct the errors above; the current settings stay in force until then.",
                cause,
            )
            return False
        if settings == self.current:
            log.info("Settings reloaded (%s). Nothing has changed.", cause)
            return False
        for key in find_restart_keys(self.current, settings):
            log.warning("Settings: %s has changed. Restart the gateway to apply it.", key)
        for warning in settings.warnings:
            log.warning("Settings: %s", warning)
        self.current = settings
        self._apply(settings)
        log.info("Settings reloaded (%s).", cause)
        return True

    def _read_stamps(self) -> tuple[Stamp, ...]:
        return tuple(_read_stamp(file) for file in self._files)

    @contextmanager
    def _hangup_signal(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        hangup = getattr(signal, "SIGHUP", None)
        if hangup is None:  # on Windows
            yield
            return
        loop.add_signal_handler(hangup, self.reload, "SIGHUP")
        try:
            yield
        finally:
            loop.remove_signal_handler(hangup)


def find_restart_keys(old: Settings, new: Settings) -> tuple[str, ...]:
    """Return the keys that have changed and take effect only at a start."""
    return tuple(key for key in RESTART_KEYS if attrgetter(key)(old) != attrgetter(key)(new))


def _read_stamp(file: Path) -> Stamp:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
