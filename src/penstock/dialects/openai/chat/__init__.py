"""Endpoint of `/v1/chat/completions`."""
