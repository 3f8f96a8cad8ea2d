"""Allowed and rejected Host and Origin headers."""

import socket

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from penstock.serving.origin_policy import OriginPolicy

labels = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=12)
names = st.lists(labels, min_size=1, max_size=4).map(".".join)
ports = st.one_of(st.just(""), st.integers(1, 65535).map(lambda port: f":{port}"))
public_names = st.lists(labels, min_size=2, max_size=4).map(".".join)
LOCAL = (".localhost", ".local", ".internal", ".lan", ".home", ".localdomain", ".corp", ".intranet", ".home.arpa")


def _is_number(label: str) -> bool:
    return label.isdigit() or label.startswith("0x")


@given(public_names, ports)
def test_a_public_host_name_is_rejected_unless_it_is_listed(name, port):
    assume(name not in ("localhost", socket.gethostname().lower()) and not name.endswith(LOCAL))
    assume(not all(_is_number(label) for label in name.split(".")))
    host = (name + port).encode()
    assert not OriginPolicy().is_host_allowed(host)
    assert OriginPolicy(hosts=frozenset({name})).is_host_allowed(host)
    assert OriginPolicy(hosts=frozenset({name})).is_host_allowed(host.upper())
    assert OriginPolicy(hosts=frozenset({"*"})).is_host_allowed(host)


@given(st.ip_addresses(v=4), ports)
def test_an_ipv4_address_is_allowed(address, port):
    assert OriginPolicy().is_host_allowed(f"{address}{port}".encode())


@given(st.ip_addresses(v=6), ports)
def test_an_ipv6_address_is_allowed(address, port):
    assert OriginPolicy().is_host_allowed(f"[{address}]{port}".encode())


@given(labels, st.sampled_from(LOCAL), ports)
def test_names_of_the_local_network_are_allowed(label, ending, port):
    assert OriginPolicy().is_host_allowed(f"{label}{ending}{port}".encode())


@pytest.mark.parametrize(
    "host",
    [
        *(
            ".",
            "localhost:evil.example",
            "127.0.0.1:evil.example",
            "[::1]:evil.example",
            "localhost:80:80",
            "ollama:11434.evil.example",
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
def test_a_host_that_only_resembles_a_local_one_is_rejected(host: str):
    assert not OriginPolicy().is_host_allowed(host.encode())


@pytest.mark.parametrize(
    "host",
    ["ollama:11434", "penstock:8005", "gpu-box_2", "", ":8005", "nas.home.arpa", "box.lan:80", "[::1]", "A.LOCAL"],
)
def test_names_that_no_public_page_can_have_are_allowed(host: str):
    assert OriginPolicy().is_host_allowed(host.encode())


@pytest.mark.parametrize(
    ("host", "is_allowed"),
    [
        ("chat.example.com", True),
        ("a.b.example.com:8005", True),
        ("example.com", False),
        ("evilexample.com", False),
        ("chat.example.com.evil.org", False),
        ("gpu7.lab.org", True),
        ("gpu.x.org", False),
    ],
)
def test_hosts_may_be_listed_by_pattern(host: str, is_allowed: bool):
    policy = OriginPolicy(hosts=frozenset({"*.example.com", "gpu*.lab.org"}))
    assert policy.is_host_allowed(host.encode()) is is_allowed


@pytest.mark.parametrize(
    "origin",
    [
        *("app://obsidian.md", "vscode-webview://1abc-2d", "vscode-file://vscode-app", "tauri://localhost", "file://"),
        "http://app.localhost:3000",
    ],
)
def test_apps_are_allowed_as_ollama_allows_them(origin: str):
    assert OriginPolicy().is_origin_allowed(origin.encode(), b"127.0.0.1:8005")


@pytest.mark.parametrize(
    ("origin", "is_allowed"),
    [
        ("chrome-extension://abcdefgh", True),
        ("moz-extension://0e7c-11", False),
        ("https://a.example.com", True),
        ("https://a.example.com:8443", False),
        ("http://a.example.com", False),
        ("http://tools:9999", True),
        ("https://other.org", True),
        ("http://other.org", True),
        ("null", False),
    ],
)
def test_origins_may_be_listed_by_pattern(origin: str, is_allowed: bool):
    patterns = {"chrome-extension://*", "https://*.example.com", "http://tools:*", "*://other.org"}
    policy = OriginPolicy(origins=frozenset(patterns))
    assert policy.is_origin_allowed(origin.encode(), b"127.0.0.1:8005") is is_allowed


def test_the_name_of_this_machine_is_allowed():
    assert OriginPolicy().is_host_allowed(socket.gethostname().encode())


def test_the_cache_of_decisions_is_bounded():
    policy = OriginPolicy()
    for number in range(5000):
        assert not policy.is_host_allowed(f"evil{number}.example".encode())
    assert len(policy.host_decisions) <= 1024
    assert policy.is_host_allowed(b"127.0.0.1")


@given(names, ports, st.sampled_from(["http", "https"]))
def test_a_page_of_another_host_is_rejected_unless_it_is_listed(name, port, scheme):
    assume(name != "localhost" and not name.endswith(".localhost"))
    assume(not all(_is_number(label) for label in name.split(".")))
    origin = f"{scheme}://{name}{port}"
    assert not OriginPolicy().is_origin_allowed(origin.encode(), b"127.0.0.1:8005")
    assert OriginPolicy(origins=frozenset({origin})).is_origin_allowed(origin.encode(), b"127.0.0.1:8005")
    assert OriginPolicy(origins=frozenset({"*"})).is_origin_allowed(origin.encode(), b"127.0.0.1:8005")
    assert OriginPolicy().is_origin_allowed(origin.encode(), f"{name}{port}".encode()), "its own page"


@given(st.ip_addresses(v=4), ports)
def test_pages_of_ip_addresses_are_allowed_on_loopback_only(address, port):
    allowed = OriginPolicy().is_origin_allowed(f"http://{address}{port}".encode(), b"box.local:8005")
    assert allowed == address.is_loopback


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "http://",
        "http://localhost:evil",
        "http://localhost.example",
        "http://[::1]evil",
        "localhost",
        "http://evil@localhost.x",
    ],
)
def test_a_malformed_origin_is_rejected(origin: str):
    assert not OriginPolicy().is_origin_allowed(origin.encode(), b"127.0.0.1:8005")


@given(st.binary(max_size=40), st.one_of(st.none(), st.binary(max_size=40)))
def test_any_header_is_allowed_or_rejected_with_the_setting_to_change(host, origin):
    error = OriginPolicy().check_request(host, origin)
    if error is not None:
        assert error.status == 403
        assert "server." in error.message


def test_a_request_without_host_and_origin_is_allowed():
    assert OriginPolicy().check_request(None, None) is None
