"""The engine of Victoria."""

import pytest

from penstock.domain.errors import Unsupported
from penstock.domain.fleet import Model
from penstock.domain.request import Call, Operation
from penstock.engines import load
from penstock.engines.victoria.engine import ENGINE

VICTORIA = Model("victoria")


def test_it_is_found_by_its_kind() -> None:
    assert load()["victoria"] is ENGINE
    assert ENGINE.operations == {Operation.AGENT, Operation.CHAT}


def test_no_event_is_forwarded_unread() -> None:
    assert not ENGINE.native_paths
    with pytest.raises(Unsupported):
        ENGINE.forward_request(Call("openai.chat", Operation.CHAT, "victoria", False, b""), VICTORIA)


def test_a_key_is_sent_as_a_bearer_token() -> None:
    assert ENGINE.authorization_headers("k") == ((b"authorization", b"Bearer k"),)
    assert ENGINE.authorization_headers("") == ()
