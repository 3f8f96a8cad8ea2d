"""Settings: their sources, their schema, and the plain values that the rest of the program receives."""
