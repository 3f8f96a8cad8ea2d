"""Blame: whose fault a failed attempt is, and what follows for the other servers and the next requests."""
