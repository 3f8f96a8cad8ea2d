"""Composition root: the only package that knows all others. Builds a gateway from settings and runs it."""
