"""Names that Ollama takes for one model."""

import pytest

from penstock.domain.model_names import normalize_model_name, shorten_model_name


@pytest.mark.parametrize(
    "name",
    [
        "tiny",
        "tiny:latest",
        "Tiny:LATEST",
        " tiny ",
        "tiny\n",
        "tiny:local",
        "tiny:latest:local",
        "library/tiny",
        "LIBRARY/tiny",
        "library/tiny:latest",
        "registry.ollama.ai/library/tiny",
        "registry.ollama.ai/library/tiny:latest",
        "Registry.Ollama.AI/Library/Tiny:Latest",
        "https://registry.ollama.ai/library/tiny",
        "http://registry.ollama.ai/library/tiny:latest",
        "registry.ollama.ai/library/tiny:LOCAL",
    ],
)
def test_the_names_of_one_model_are_the_same(name):
    assert normalize_model_name(name) == "tiny"


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("registry.ollama.ai/me/mine:7b", "me/mine:7b"),
        ("me/mine:latest", "me/mine"),
        ("hf.co/x/y:Q4_K_M", "hf.co/x/y:q4_k_m"),
        ("Qwen/Qwen2.5-7B-Instruct", "qwen/qwen2.5-7b-instruct"),
        ("library/x/y", "library/x/y"),
        ("ollama.com/library/tiny", "ollama.com/library/tiny"),
        ("http://tiny", "http://tiny"),
        ("https://library/tiny", "https://library/tiny"),
        ("tiny:4k", "tiny:4k"),
        ("tiny:localhost", "tiny:localhost"),
        ("/models/tiny.gguf", "/models/tiny.gguf"),
        ("", ""),
        ("library/", ""),
    ],
)
def test_other_names_stay_apart(name, same):
    assert normalize_model_name(name) == same


def test_the_letters_of_a_shortened_name_stay():
    assert shorten_model_name("registry.ollama.ai/library/TINY:latest") == "TINY"
    assert shorten_model_name("x" * 100_000 + ":latest").endswith(":latest")
