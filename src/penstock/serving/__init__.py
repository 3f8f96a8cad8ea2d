"""HTTP in: inference routes straight from the parser, everything else through ASGI."""
