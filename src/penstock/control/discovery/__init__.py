"""Discovery: which servers there are, which are up, and what models they have."""
