"""MLX API server: Ollama-like lists and streams."""
