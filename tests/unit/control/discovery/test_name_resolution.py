"""Resolution of host names: by multicast DNS or by the operating system."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.control.discovery.name_resolution import (
    MdnsResolver,
    get_host,
    get_port,
    is_own_address,
    normalize_address,
    overlaps,
    replace_host,
)


class FixedNames:
    """An mDNS lookup with fixed names."""

    def __init__(self, **names: tuple[str, ...]) -> None:
        self.names = {f"{name}.local": addresses for name, addresses in names.items()}
        self.asked: list[tuple[str, bool]] = []

    async def resolve_host(self, name: str, fresh: bool = False) -> tuple[str, ...]:
        self.asked.append((name, fresh))
        return self.names.get(name, ())


@pytest.mark.parametrize(
    ("url", "resolved"),
    [
        ("http://gpu.local:11434", ("http://10.0.0.7:11434", "http://[fd00::7]:11434")),
        ("http://GPU.local.:8000/llm", ("http://10.0.0.7:8000/llm", "http://[fd00::7]:8000/llm")),
        ("http://other.local:11434", ()),
    ],
)
async def test_a_local_name_is_replaced_by_all_its_addresses(url, resolved):
    assert await MdnsResolver(FixedNames(gpu=("10.0.0.7", "fd00::7"))).resolve_url(url, False) == resolved


@pytest.mark.parametrize(
    "url", ["http://localhost:11434", "http://10.0.0.7:1", "http://gpu:1", "https://gpu.local:443"]
)
async def test_other_names_are_not_looked_up_by_mdns(url):
    mdns = FixedNames(gpu=("10.0.0.7",))

    assert await MdnsResolver(mdns).resolve_url(url, False) == ()
    assert mdns.asked == []


async def test_a_fresh_result_can_be_requested():
    mdns = FixedNames(gpu=("10.0.0.7",))
    await MdnsResolver(mdns).resolve_url("http://gpu.local:1", True)

    assert mdns.asked == [("gpu.local", True)]


async def test_two_urls_of_one_server_have_the_same_addresses():
    resolver = MdnsResolver(FixedNames(gpu=("203.0.113.7",), here=("127.0.0.1",)))

    assert await resolver.resolve_addresses("http://gpu.local:11434") == await resolver.resolve_addresses(
        "http://203.0.113.7:11434/x"
    )
    assert await resolver.resolve_addresses("http://here.local:1") == {("localhost", 1)}
    assert await resolver.resolve_addresses("http://localhost:1") == {("localhost", 1)}
    assert await resolver.resolve_addresses("http://[::1]:1") == {("localhost", 1)}
    assert await resolver.resolve_addresses("http://nobody.invalid:1") == frozenset()
    assert not overlaps(
        await resolver.resolve_addresses("http://127.0.0.1:1"), await resolver.resolve_addresses("http://127.0.0.1:2")
    )


def test_this_machines_own_addresses_are_recognized():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        try:
            out.connect(("192.0.2.200", 9))
        except OSError:
            pytest.skip("no network but loopback")
        mine = out.getsockname()[0]

    assert is_own_address(mine)
    assert is_own_address("127.0.0.53")
    assert not is_own_address("203.0.113.7")
    assert normalize_address(mine, 5) == ("localhost", 5)


@given(st.ip_addresses().map(str), st.integers(1, 65535), st.sampled_from(["", "/llm"]))
def test_an_address_replaces_the_name_and_nothing_else_changes(address, port, path):
    url = replace_host(f"http://gpu.local:{port}{path}", address)

    assert get_host(url) == address
    assert get_port(url) == port
    assert url.endswith(path)
    assert replace_host(url, "gpu.local") == f"http://gpu.local:{port}{path}"
