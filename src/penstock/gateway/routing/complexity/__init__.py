"""How hard a request is, and of what kind."""
