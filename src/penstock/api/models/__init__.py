"""Lists of models, in the formats of OpenAI, Anthropic and Ollama."""
