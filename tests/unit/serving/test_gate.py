"""Which Host names and Origins may come in."""

import socket

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from penstock.serving.routes import Gate

labels = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=12)
names = st.lists(labels, min_size=1, max_size=4).map(".".join)
ports = st.one_of(st.just(""), st.integers(1, 65535).map(lambda port: f":{port}"))
LOCAL = (".localhost", ".local", ".internal")


def _number(label: str) -> bool:
    return label.isdigit() or label.startswith("0x")


@given(names, ports)
def test_a_name_of_the_internet_is_refused_unless_it_is_listed(name, port):
    assume(name not in ("localhost", socket.gethostname().lower()) and not name.endswith(LOCAL))
    assume(not all(_number(label) for label in name.split(".")))
    host = (name + port).encode()
    assert not Gate().host_allowed(host)
    assert Gate(hosts=frozenset({name})).host_allowed(host)
    assert Gate(hosts=frozenset({name})).host_allowed(host.upper())
    assert Gate(hosts=frozenset({"*"})).host_allowed(host)


@given(st.ip_addresses(v=4), ports)
def test_an_address_of_version_4_is_ours(address, port):
    assert Gate().host_allowed(f"{address}{port}".encode())


@given(st.ip_addresses(v=6), ports)
def test_an_address_of_version_6_is_ours(address, port):
    assert Gate().host_allowed(f"[{address}]{port}".encode())


@given(labels, st.sampled_from(LOCAL), ports)
def test_names_that_only_this_network_knows_are_ours(label, ending, port):
    assert Gate().host_allowed(f"{label}{ending}{port}".encode())


@pytest.mark.parametrize(
    "host",
    [
        *(
            "",
            ".",
            "localhost.",
            "localhost.example",
            "127.0.0.1.example",
            "[::1].example",
            "[::1",
            "127.1",
            "0x7f000001",
        ),
        *("2130706433", "::1", "localhost@evil.example", "evil.example#localhost", "местный"),
    ],
)
def test_what_only_looks_like_ours_is_refused(host: str):
    assert not Gate().host_allowed(host.encode())


def test_the_name_of_this_machine_is_ours():
    assert Gate().host_allowed(socket.gethostname().encode())


def test_what_was_judged_is_remembered_but_not_without_end():
    gate = Gate()
    for number in range(5000):
        assert not gate.host_allowed(f"evil{number}.example".encode())
    assert len(gate.known) <= 1024
    assert gate.host_allowed(b"127.0.0.1")


@given(names, ports, st.sampled_from(["http", "https"]))
def test_a_page_of_another_name_is_refused_unless_it_is_listed(name, port, scheme):
    assume(name != "localhost" and not name.endswith(".localhost"))
    assume(not all(_number(label) for label in name.split(".")))
    origin = f"{scheme}://{name}{port}"
    assert not Gate().origin_allowed(origin.encode(), b"127.0.0.1:8005")
    assert Gate(origins=frozenset({origin})).origin_allowed(origin.encode(), b"127.0.0.1:8005")
    assert Gate(origins=frozenset({"*"})).origin_allowed(origin.encode(), b"127.0.0.1:8005")
    assert Gate().origin_allowed(origin.encode(), f"{name}{port}".encode()), "its own page"


@given(st.ip_addresses(v=4), ports)
def test_pages_of_addresses_are_let_in_from_loopback_only(address, port):
    allowed = Gate().origin_allowed(f"http://{address}{port}".encode(), b"box.local:8005")
    assert allowed == address.is_loopback


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "file://",
        "http://",
        "http://localhost.example",
        "http://[::1]evil",
        "localhost",
        "http://evil@localhost.x",
    ],
)
def test_an_odd_origin_is_refused(origin: str):
    assert not Gate().origin_allowed(origin.encode(), b"127.0.0.1:8005")


@given(st.binary(max_size=40), st.one_of(st.none(), st.binary(max_size=40)))
def test_whatever_comes_is_let_in_or_refused_in_words(host, origin):
    refusal = Gate().check(host, origin)
    if refusal is not None:
        assert refusal.status == 403
        assert "server." in refusal.message


def test_a_request_without_host_and_origin_is_let_in():
    assert Gate().check(None, None) is None
