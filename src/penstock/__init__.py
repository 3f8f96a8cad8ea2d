"""One address in front of a team's own model servers."""

__version__ = "0.1.0"
