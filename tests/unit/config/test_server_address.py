import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.config.server_address import is_loopback, mask_credentials, parse_address


def url(text: str, *, bare_port: int = 11434, http_port: int = 11434) -> str:
    return parse_address(text, bare_port=bare_port, http_port=http_port).url


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("http://localhost:11434", "http://localhost:11434"),
        ("http://localhost:11434/", "http://localhost:11434"),
        ("http://localhost:11434/v1", "http://localhost:11434"),
        ("http://localhost:11434/v1/", "http://localhost:11434"),
        ("http://localhost:11434//v1//", "http://localhost:11434"),
        ("localhost:11434", "http://localhost:11434"),
        ("localhost", "http://localhost:11434"),
        ("ollama-server.local", "http://ollama-server.local:11434"),
        ("ollama.local:80", "http://ollama.local:80"),
        ("http://ollama.local", "http://ollama.local:11434"),
        ("https://models.example.com", "https://models.example.com"),
        ("https://models.example.com:443/openai/v1", "https://models.example.com/openai"),
        ("https://models.example.com:8443", "https://models.example.com:8443"),
        ("HTTP://Example.COM:1/A", "http://example.com:1/A"),
        ("192.168.178.126:11434", "http://192.168.178.126:11434"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("http://[FD00:0:0:0:0:0:0:1]:8080/v1", "http://[fd00::1]:8080"),
        ("::1", "http://[::1]:11434"),
        ("fd00::5", "http://[fd00::5]:11434"),
        ("[fe80::1%25eth0]:8080", "http://[fe80::1%eth0]:8080"),
        ("http://gpu_box:8000", "http://gpu_box:8000"),
        ("http://пример.рф:8000", "http://xn--e1afmkfd.xn--p1ai:8000"),
        ("  http://localhost:1  ", "http://localhost:1"),
    ],
)
def test_an_address_is_parsed_as_intended(written: str, meant: str) -> None:
    assert url(written) == meant


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "   ",
        "ftp://host",
        "unix:///run/x.sock",
        "http://",
        "http:///path",
        "http:/host",
        "//host",
        "/path",
        "http://host:",
        "http://host:0",
        "http://host:99999",
        "http://host:port",
        "http://ho st",
        "http://host\n",
        "http://ho\x00st",
        "http://host\\path",
        "http://host/?query",
        "http://host/#fragment",
        "http://[::1",
        "http://[zz::1]:80",
        "http://999.1.1.1",
        "http://1.2.3",
        "http://-dash.example.com",
        "http://dash-.example.com",
        "http://a..b",
        "http://" + "a" * 64,
        "http://" + ".".join(["abcdefgh"] * 40),
        "http://ho*st",
    ],
)
def test_an_invalid_address_is_refused_with_a_reason(wrong: str) -> None:
    if wrong == "http://host\n":
        assert url(wrong) == "http://host:11434"  # space around an address is no part of it
        return
    with pytest.raises(ValueError, match=r"^(is|has|must|needs|begins) "):
        url(wrong)


def test_the_default_port_depends_on_whether_a_scheme_is_given() -> None:
    assert parse_address("host", bare_port=8000).port == 8000
    assert parse_address("http://host", bare_port=8000).port == 80
    assert parse_address("https://host", bare_port=8000).port == 443


def test_credentials_are_taken_out_of_the_address() -> None:
    address = parse_address("https://user:p%40ss@host/v1", bare_port=1)
    assert address.credentials == "user:p@ss"
    assert address.url == "https://host"
    assert "p@ss" not in repr(address)


@pytest.mark.parametrize("text", ["http://u:secret@ho st", "http://u:secret@host:port", "ftp://u:secret@host"])
def test_an_error_about_an_address_never_repeats_its_credentials(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        url(text)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://u:p@host:1/x", "http://***@host:1/x"),
        ("u:p@host", "***@host"),
        ("http://u:p/q r@host", "http://***@host"),
        ("postgresql://u:p:a@ss@db/x", "postgresql://***@db/x"),
        ("http://host", "http://host"),
        ("", ""),
    ],
)
def test_credentials_are_masked_in_any_text(text: str, expected: str) -> None:
    assert mask_credentials(text) == expected


@pytest.mark.parametrize(
    "one", ["http://localhost:8080", "http://127.0.0.1:8080", "http://[::1]:8080/v1", "0.0.0.0:8080"]
)
def test_names_of_this_machine_are_one_address(one: str) -> None:
    assert parse_address(one, bare_port=1).identity == ("localhost", 8080, "")


def test_two_prefixes_on_one_host_are_two_addresses() -> None:
    assert parse_address("http://h/a", bare_port=1).identity != parse_address("http://h/b", bare_port=1).identity


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.53", "::1", "[::1]", "localhost", "LOCALHOST"])
def test_loopback_hosts_are_recognized(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "", "192.168.1.1", "example.com", "localhost.example.com", "fd00::1"]
)
def test_other_hosts_are_not_loopback(host: str) -> None:
    assert not is_loopback(host)


labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
names = (
    st.lists(labels, min_size=1, max_size=3).map(".".join).filter(lambda name: not name.rpartition(".")[2].isdigit())
)
hosts = st.one_of(
    names.filter(lambda name: not name.startswith("xn--")),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(lambda address: f"[{ipaddress.IPv6Address(address)}]"),
)
prefixes = st.lists(st.from_regex(r"[A-Za-z0-9._~-]{1,8}", fullmatch=True), max_size=3).map(
    lambda parts: "".join(f"/{part}" for part in parts)
)


@given(
    scheme=st.sampled_from(["", "http://", "https://", "HTTP://"]),
    host=hosts,
    port=st.none() | st.integers(1, 65535),
    prefix=prefixes,
    ending=st.sampled_from(["", "/", "/v1", "/v1/", "/v1/v1"]),
)
def test_normalising_twice_is_normalising_once(
    scheme: str, host: str, port: int | None, prefix: str, ending: str
) -> None:
    once = parse_address(
        f"{scheme}{host}{f':{port}' if port else ''}{prefix}{ending}", bare_port=11434, http_port=11434
    )
    assert parse_address(once.url, bare_port=1, http_port=2) == once
    assert once.port == (port or (443 if once.scheme == "https" else 11434))
    assert not once.prefix.endswith(("/", "/v1"))


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        address = parse_address(text, bare_port=11434)
    except ValueError:
        return
    assert address.scheme in ("http", "https")
    assert 1 <= address.port <= 65535
    assert address.url.isascii()
    assert not set(address.url) & set(" \t\r\n")
