"""Reload of settings while the gateway runs."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.config.reload import RESTART_KEYS, Reloader, find_restart_keys
from penstock.config.settings import Settings
from tests.support.settings_folder import SettingsFolder


class Watched:
    """A reloader over a folder, and the settings that it published."""

    def __init__(self, folder: SettingsFolder, text: str | None) -> None:
        self.folder = folder
        self.applied: list[Settings] = []
        self.first = folder.load(text)
        file = folder.path / "penstock.yaml"
        self.reloader = Reloader(folder.load, self.first, self.applied.append, [file])

    def settle(self) -> bool:
        """Check the files until the change is stable."""
        return any([self.reloader.check_files(), self.reloader.check_files()])


@pytest.fixture
def watch(folder: SettingsFolder) -> Callable[..., Watched]:
    def start(text: str | None = "server: {drain_seconds: 1}\n") -> Watched:
        return Watched(folder, text)

    return start


def test_a_changed_file_is_read_again(watch: Callable[..., Watched]) -> None:
    watched = watch()
    watched.folder.write("server: {drain_seconds: 20}\n")
    assert watched.settle()
    assert [settings.server.drain_seconds for settings in watched.applied] == [20]
    assert watched.reloader.current == watched.applied[0]


def test_an_unchanged_file_is_not_loaded_again(watch: Callable[..., Watched]) -> None:
    watched = watch()
    assert not watched.settle()
    assert not watched.settle()
    assert watched.applied == []


def test_a_file_that_is_still_being_written_is_waited_for(watch: Callable[..., Watched]) -> None:
    watched = watch()
    watched.folder.write("")
    assert not watched.reloader.check_files()
    watched.folder.write("server: {drain_seconds: 2}\n")
    assert not watched.reloader.check_files()
    assert watched.reloader.check_files()
    assert [settings.server.drain_seconds for settings in watched.applied] == [2]


def test_a_bad_file_is_refused_with_its_errors_and_the_old_settings_stay(
    watch: Callable[..., Watched], caplog: pytest.LogCaptureFixture
) -> None:
    watched = watch()
    watched.folder.write("server: {prot: 1, host: 5}\n")
    assert not watched.settle()
    assert watched.applied == []
    assert watched.reloader.current is watched.first
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert any('server.prot is not a known key; did you mean "port"?' in line for line in errors)
    assert any("server.host must be text" in line for line in errors)
    assert errors[-1].startswith("Settings not reloaded (the file changed). Correct the errors")


def test_a_corrected_file_is_loaded(watch: Callable[..., Watched]) -> None:
    watched = watch()
    watched.folder.write("server: {prot: 1}\n")
    watched.settle()
    watched.folder.write("server: {drain_seconds: 3}\n")
    assert watched.settle()
    assert watched.reloader.current.server.drain_seconds == 3


def test_a_new_comment_changes_no_setting(watch: Callable[..., Watched]) -> None:
    watched = watch()
    watched.folder.write("# a comment\nserver: {drain_seconds: 1}\n")
    assert not watched.settle()
    assert watched.applied == []


def test_a_file_that_appears_is_read(watch: Callable[..., Watched]) -> None:
    watched = watch(None)
    assert not watched.first.anything_configured
    watched.folder.write("llm: {providers: {openai: {url: 'http://x:1'}}}\n")
    assert watched.settle()
    assert watched.reloader.current.anything_configured


def test_a_file_that_vanishes_changes_nothing(watch: Callable[..., Watched], caplog: pytest.LogCaptureFixture) -> None:
    watched = watch()
    (watched.folder.path / "penstock.yaml").unlink()
    assert not watched.settle()
    assert not watched.settle()
    assert watched.applied == []
    assert len([record for record in caplog.records if "is gone" in record.getMessage()]) == 1


def test_a_file_replaced_by_renaming_is_loaded_even_with_equal_size_and_time(
    watch: Callable[..., Watched],
) -> None:
    watched = watch()
    file = watched.folder.path / "penstock.yaml"
    before = file.stat()
    other = watched.folder.write("server: {drain_seconds: 2}\n", "new.yaml")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(file)
    assert watched.settle()
    assert watched.reloader.current.server.drain_seconds == 2


def test_settings_that_need_a_restart_are_named(
    watch: Callable[..., Watched], caplog: pytest.LogCaptureFixture
) -> None:
    watched = watch()
    watched.folder.write("server: {port: 9, drain_seconds: 2}\nstorage: {data_dir: /elsewhere}\n")
    watched.settle()
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warned == [
        "Settings: server.port has changed. Restart the gateway to apply it.",
        "Settings: storage.data_dir has changed. Restart the gateway to apply it.",
    ]
    assert len(watched.applied) == 1


def test_keys_that_need_a_restart_exist(folder: SettingsFolder) -> None:
    settings = folder.load()
    assert find_restart_keys(settings, settings) == ()
    moved = replace(settings, server=replace(settings.server, host="::1"))
    assert find_restart_keys(settings, moved) == ("server.host",)
    assert set(RESTART_KEYS) <= set(settings.effective_values)


async def test_the_watch_checks_once_an_interval_and_ends_when_cancelled(folder: SettingsFolder) -> None:
    first = folder.load("server: {drain_seconds: 1}\n")
    applied = asyncio.Event()
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 1:
            folder.write("server: {drain_seconds: 2}\n")
        await asyncio.sleep(0)

    file = folder.path / "penstock.yaml"
    reloader = Reloader(folder.load, first, lambda _: applied.set(), [file], interval=0.5, sleep=pause)
    task = asyncio.create_task(reloader.run())
    await applied.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert set(pauses) == {0.5}


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
async def test_a_hangup_signal_reloads_at_once_and_its_handler_is_restored_afterwards(folder: SettingsFolder) -> None:
    first = folder.load("server: {drain_seconds: 1}\n")
    applied = asyncio.Event()
    watching = asyncio.Event()

    async def pause(_: float) -> None:
        watching.set()
        await asyncio.Event().wait()

    reloader = Reloader(folder.load, first, lambda _: applied.set(), [Path("/none")], sleep=pause)
    task = asyncio.create_task(reloader.run())
    await watching.wait()
    folder.write("server: {drain_seconds: 2}\n")
    os.kill(os.getpid(), signal.SIGHUP)
    await applied.wait()
    assert reloader.current.server.drain_seconds == 2
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
