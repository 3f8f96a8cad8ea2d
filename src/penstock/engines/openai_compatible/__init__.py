"""Servers that speak OpenAI's API, and the parts that such engines share."""
