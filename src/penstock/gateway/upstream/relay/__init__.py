"""Relays: how a server's response reaches the client."""
