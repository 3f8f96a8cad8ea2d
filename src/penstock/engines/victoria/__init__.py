"""Victoria, an agent with an HTTP API of its own."""
