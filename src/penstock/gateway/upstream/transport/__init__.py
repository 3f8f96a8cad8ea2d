"""Connections to servers, their pool, and small fetches."""
