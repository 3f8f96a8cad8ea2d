"""Simulated days of a fleet in virtual time: the same calls under several routing policies, and their latency."""
