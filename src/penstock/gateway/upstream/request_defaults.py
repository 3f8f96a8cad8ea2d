"""Decode a request and apply the settings' defaults."""

from dataclasses import replace

from penstock.dialects.base import Endpoint
from penstock.dialects.json_body import UNREADABLE_ERRORS, create_unreadable_error
from penstock.domain.content import Chat, Completion, Content
from penstock.domain.request import Call, Defaults


def decode_with_defaults(endpoint: Endpoint, call: Call, defaults: Defaults) -> Content:
    """Decode a call fully, with the configured token limit and temperature where it asks for them."""
    try:
        content = endpoint.decode_content(call)
    except UNREADABLE_ERRORS as error:
        raise create_unreadable_error(error) from None
    if not call.use_defaults or not isinstance(content, Chat | Completion):
        return content
    sampling = content.sampling
    if sampling.max_tokens is None:
        sampling = replace(sampling, max_tokens=defaults.max_tokens)
    if sampling.temperature is None:
        sampling = replace(sampling, temperature=defaults.temperature)
    return replace(content, sampling=sampling)
