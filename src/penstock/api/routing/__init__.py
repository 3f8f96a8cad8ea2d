"""Explanations of routing decisions."""
