"""The event loop for tests of the hot path: the one that the gateway uses."""

import asyncio
from collections.abc import Callable

import pytest

try:
    from uvloop import new_event_loop
except ImportError:  # Windows
    from asyncio import new_event_loop

HOT_PATH = ("test_http_", "test_upstream_", "test_failover", "test_faults")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Use uvloop for the hot path, asyncio's own loop for the rest."""
    return {"loop": new_event_loop if item.path.name.startswith(HOT_PATH) else asyncio.new_event_loop}
