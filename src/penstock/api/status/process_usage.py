"""Resource usage of this process and its host, as far as the system reports it: fully on Linux, partly elsewhere."""

import contextlib
import importlib
import importlib.util
import os
import platform
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_resource = importlib.import_module("resource") if importlib.util.find_spec("resource") else None  # not on Windows

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class ResourceUsage:
    """Figures by name; sizes are bytes, times seconds. What the system does not report is missing."""

    process: Mapping[str, float | str]
    host: Mapping[str, float | str]


def measure_usage() -> ResourceUsage:
    """Measure the current usage."""
    times = os.times()
    process: dict[str, float | str] = {
        "pid": os.getpid(),
        "python": platform.python_version(),
        "cpu_seconds": round(times.user + times.system, 3),
        "threads": threading.active_count(),
    }
    memory = _read_memory()
    if memory:
        process["memory_bytes"] = memory
    with contextlib.suppress(OSError):
        process["open_files"] = len(os.listdir(_PROC / "self" / "fd"))  # noqa: PTH208  a count, no paths
    if _resource is not None:
        process["open_files_limit"] = _resource.getrlimit(_resource.RLIMIT_NOFILE)[0]
    return ResourceUsage(process, _read_host())


def _read_memory() -> int:
    """Return the resident memory in bytes; outside Linux its peak."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int((_PROC / "self" / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    if _resource is None:
        return 0
    peak: int = _resource.getrusage(_resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


def _read_host() -> dict[str, float | str]:
    host: dict[str, float | str] = {"system": platform.system(), "cpus": os.cpu_count() or 1}
    with contextlib.suppress(OSError, AttributeError):
        host |= dict(zip(("load_1m", "load_5m", "load_15m"), os.getloadavg(), strict=True))
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = (line.split() for line in (_PROC / "meminfo").read_text().splitlines())
        sizes = {fields[0]: int(fields[1]) * 1024 for fields in lines}
        host["memory_total_bytes"] = sizes.get("MemTotal:", 0)
        host["memory_available_bytes"] = sizes.get("MemAvailable:", 0)
    return host
