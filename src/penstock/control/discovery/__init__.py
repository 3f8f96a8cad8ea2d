"""Discovery of model servers: their addresses, their state and their models."""
