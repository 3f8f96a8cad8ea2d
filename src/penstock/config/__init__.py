"""Settings: where they come from, what they must look like, and the plain values that everyone else is handed."""
