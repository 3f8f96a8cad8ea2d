"""Routing decisions, explained."""
