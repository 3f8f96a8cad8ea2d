"""`penstock reload`: make the running gateway read its settings again."""

import os
import signal
import sys

from penstock.cli.options import ConfigOption, fail, load_or_exit
from penstock.storage.data_dir import find_running_pid


def reload(config: ConfigOption = None) -> int:
    """Make the running gateway read its settings again.

    No request is interrupted. The gateway is found by its data folder. If the new settings are invalid, its log says so
    and the current ones stay in force.

    \b
    Examples:
      penstock reload
      PENSTOCK_DATA_DIR=/srv/penstock penstock reload
    """
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is None:
        fail("This system has no SIGHUP. Change the settings file instead; the running gateway watches it.")
    folder = load_or_exit(config).data_dir
    pid = find_running_pid(folder)
    if pid is None:
        fail(
            f"No gateway uses the data folder {folder}. Start one with `penstock serve`, or set PENSTOCK_DATA_DIR to "
            "the folder of the running one."
        )
    try:
        os.kill(pid, hangup)
    except OSError as error:
        fail(f"Cannot signal the gateway (process {pid}): {error.strerror}. Run this command as the gateway's user.")
    sys.stdout.write(f"The gateway (process {pid}) reads its settings again. See its log for the result.\n")
    return 0
