"""Complexity of a request: its level and task type."""
