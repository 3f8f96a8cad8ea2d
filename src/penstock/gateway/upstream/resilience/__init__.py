"""Circuit breakers, retry plan and budget, backoff, hedging."""
