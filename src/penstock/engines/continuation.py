"""Requests that make a server continue an interrupted response.

How servers continue a partial assistant message:

- vLLM: `continue_final_message: true, add_generation_prompt: false` leaves the last message open (documentation of its
  chat API).
- llama.cpp: continues a trailing assistant message by default since b5224; `--no-prefill-assistant` turns that off. It
  rejects a trailing assistant message together with thinking, so thinking is disabled for the continuation.
- Ollama: `/api/chat` continues a trailing assistant message if the model's template leaves it open, which nearly all
  do (its maintainers, on the request for a "continue" option).
- Raw completions continue from the end of the prompt on every server.
- Other OpenAI-compatible servers, the MLX API server and Victoria cannot continue a message.
"""

from dataclasses import replace

from penstock.domain.content import Chat, Completion, Message, Text


def append_assistant_text(chat: Chat, sent_text: str) -> Chat:
    """Return the chat with `sent_text` as its last, assistant message."""
    return replace(chat, messages=(*chat.messages, Message("assistant", (Text(sent_text),))))


def extend_prompt(completion: Completion, sent_text: str) -> Completion:
    """Return the completion with `sent_text` appended to its prompt."""
    return replace(completion, prompts=(f"{completion.prompts[0]}{sent_text}",))
