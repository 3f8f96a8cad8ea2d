"""The request that asks an engine for the rest of an answer that broke off.

How engines go on with an assistant's turn that has been begun:

- vLLM: `continue_final_message: true, add_generation_prompt: false` leaves the last turn open (its documentation of the
  chat API).
- llama.cpp: a trailing assistant turn is gone on with by itself since b5224; servers started with
  `--no-prefill-assistant` do not. It refuses that together with thinking, so thinking is turned off for the rest.
- Ollama: `/api/chat` goes on with a trailing assistant turn wherever the model's template leaves it open, which nearly
  all do (its maintainers, on the question of a "continue" option).
- Raw completions go on wherever the prompt ends, on all of them.
- Other servers of OpenAI's API, the MLX API server and Victoria have no word for it.
"""

from dataclasses import replace

from penstock.domain.content import Chat, Completion, Message, Text


def begun(chat: Chat, said: str) -> Chat:
    """The chat with what was said as a last turn of the assistant's."""
    return replace(chat, messages=(*chat.messages, Message("assistant", (Text(said),))))


def prolonged(completion: Completion, said: str) -> Completion:
    """The completion with what was said as part of its prompt."""
    return replace(completion, prompts=(f"{completion.prompts[0]}{said}",))
