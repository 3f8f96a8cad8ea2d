"""Lists and model operations in the format of Ollama's API."""
