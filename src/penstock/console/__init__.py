"""Everything over HTTP that is not inference: what the gateway is, has and does, for people, clients and monitors."""

from penstock.console.app import build
from penstock.console.context import ConsoleContext, ConsoleSettings
from penstock.console.failures import Failures

__all__ = ["ConsoleContext", "ConsoleSettings", "Failures", "build"]
