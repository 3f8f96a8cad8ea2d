"""OpenAI's API, as several simulated kinds of server speak it."""
