"""Client connections over HTTP: inference routes directly from the parser, all others through ASGI."""
