"""System messages as chat templates accept them."""

import pytest

from penstock.domain.content import Image, Message, Text
from penstock.engines.error_messages import is_role_refusal
from penstock.engines.system_messages import merge_system_messages


def build_messages(*turns: tuple[str, str]) -> tuple[Message, ...]:
    return tuple(Message(role, (Text(text),)) for role, text in turns)


def test_leading_system_messages_become_one():
    messages = build_messages(("developer", "a"), ("system", "b"), ("developer", "c"), ("user", "hi"))
    expected = build_messages(("system", "a\n\nb\n\nc"), ("user", "hi"))
    assert merge_system_messages(messages, keeps_later=False) == expected
    assert merge_system_messages(messages, keeps_later=True) == expected


def test_later_ones_keep_their_place():
    messages = build_messages(("system", "a"), ("user", "hi"), ("developer", "b"), ("assistant", "ok"), ("user", "x"))
    kept = merge_system_messages(messages, keeps_later=True)
    assert [message.role for message in kept] == ["system", "user", "system", "assistant", "user"]


def test_templates_without_later_system_messages_get_them_in_the_users_turn():
    messages = build_messages(
        ("user", "hi"), ("system", "b"), ("assistant", "ok"), ("developer", "c"), ("user", "more"), ("user", "x")
    )
    assert merge_system_messages(messages, keeps_later=False) == build_messages(
        ("user", "hi\n\nb"), ("assistant", "ok"), ("user", "c\n\nmore"), ("user", "x")
    )


def test_images_stay_between_texts():
    picture = Message("user", (Image(data="AAAA"),))
    (merged,) = merge_system_messages((picture, *build_messages(("system", "b"))), keeps_later=False)
    assert merged == Message("user", (Image(data="AAAA"), Text("b")))


@pytest.mark.parametrize(
    ("message", "is_refusal"),
    [
        ("System message must be at the beginning.", True),
        ("Unexpected message role.", True),
        ("Conversation roles must alternate user/assistant/user/assistant/...", True),
        ("messages[0].role: unknown variant `developer`, expected one of `system`, `user`", True),
        ("llama.cpp failed: Jinja Exception: Unknown role: developer", True),
        ("max_tokens must be at least 1, got 0.", False),
        ("The model `x` does not exist.", False),
    ],
)
def test_refusals_of_roles_are_known_by_their_words(message: str, is_refusal: bool):
    assert is_role_refusal(message) is is_refusal
