"""The `options` of a request: their types, the ones that a model is loaded with, and the `format` of the answer."""

from typing import Any

from penstock.sim.kinds.ollama.go.text import encode_json, quote_text

_INTEGERS = frozenset(
    (
        "num_ctx",
        "num_batch",
        "num_gpu",
        "main_gpu",
        "num_thread",
        "draft_num_predict",
        "num_keep",
        "seed",
        "num_predict",
        "top_k",
        "repeat_last_n",
    )
)
_FLOATS = frozenset(
    ("top_p", "min_p", "typical_p", "temperature", "repeat_penalty", "presence_penalty", "frequency_penalty")
)
# A request with other values of these options reloads the model.
_LOAD_TIME = ("num_ctx", "num_batch", "num_thread", "main_gpu", "use_mmap", "draft_num_predict")


class BadOptionError(ValueError):
    """An option has the wrong type; Ollama answers 500."""


def check_options(options: dict[str, Any]) -> None:
    """Raise BadOptionError for a known option of the wrong type; unknown options pass."""
    for name, value in options.items():
        if value is None:
            continue
        if name in _INTEGERS and not _is_number(value):
            raise BadOptionError(f'option "{name}" must be of type integer')
        if name in _FLOATS and not _is_number(value):
            raise BadOptionError(f'option "{name}" must be of type float32')
        if name == "use_mmap" and not isinstance(value, bool):
            raise BadOptionError(f'option "{name}" must be of type boolean')
        if name == "stop":
            if not isinstance(value, list):
                raise BadOptionError(f'option "{name}" must be of type array')
            if not all(isinstance(word, str) for word in value):
                raise BadOptionError(f'option "{name}" must be of an array of strings')


def integer_option(options: dict[str, Any], name: str) -> int | None:
    """Return the integer part of an option, or None."""
    value = options.get(name)
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def load_parameters(options: dict[str, Any], shift: bool | None) -> tuple[Any, ...]:
    """Return the options that a model is loaded with; two requests that differ here cannot share a loaded model."""
    return (*(options.get(name) for name in _LOAD_TIME), shift is not False)


def read_format(value: Any) -> Any:
    """Return None for free text, True for any JSON object, else the schema. Raises BadOptionError for anything else."""
    if value is None or value == "":
        return None
    if value == "json":
        return True
    if isinstance(value, dict):
        return value
    quoted = quote_text(encode_json(value).decode())
    raise BadOptionError(f'invalid format: {quoted}; expected "json" or a valid JSON Schema object')


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
