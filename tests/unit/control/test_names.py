"""Names in numbers: which addresses are asked of the network, and what they become."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.control.discovery.name_resolution import NamesByMdns, host_of, is_own, place, port_of, touches, with_host


class Table:
    """A network whose names are written down."""

    def __init__(self, **names: tuple[str, ...]) -> None:
        self.names = {f"{name}.local": addresses for name, addresses in names.items()}
        self.asked: list[tuple[str, bool]] = []

    async def addresses(self, name: str, fresh: bool = False) -> tuple[str, ...]:
        self.asked.append((name, fresh))
        return self.names.get(name, ())


@pytest.mark.parametrize(
    ("url", "numbered"),
    [
        ("http://gpu.local:11434", ("http://10.0.0.7:11434", "http://[fd00::7]:11434")),
        ("http://GPU.local.:8000/llm", ("http://10.0.0.7:8000/llm", "http://[fd00::7]:8000/llm")),
        ("http://other.local:11434", ()),
    ],
)
async def test_local_names_become_all_their_addresses(url, numbered):
    assert await NamesByMdns(Table(gpu=("10.0.0.7", "fd00::7"))).numbered(url, False) == numbered


@pytest.mark.parametrize(
    "url", ["http://localhost:11434", "http://10.0.0.7:1", "http://gpu:1", "https://gpu.local:443"]
)
async def test_other_names_are_not_asked_of_the_network(url):
    table = Table(gpu=("10.0.0.7",))

    assert await NamesByMdns(table).numbered(url, False) == ()
    assert table.asked == []


async def test_what_is_known_is_asked_again_when_wanted():
    table = Table(gpu=("10.0.0.7",))
    await NamesByMdns(table).numbered("http://gpu.local:1", True)

    assert table.asked == [("gpu.local", True)]


async def test_places_are_the_same_for_two_ways_to_one_server():
    names = NamesByMdns(Table(gpu=("203.0.113.7",), here=("127.0.0.1",)))

    assert await names.places("http://gpu.local:11434") == await names.places("http://203.0.113.7:11434/x")
    assert await names.places("http://here.local:1") == {("localhost", 1)}
    assert await names.places("http://localhost:1") == {("localhost", 1)}
    assert await names.places("http://[::1]:1") == {("localhost", 1)}
    assert await names.places("http://nobody.invalid:1") == frozenset()
    assert not touches(await names.places("http://127.0.0.1:1"), await names.places("http://127.0.0.1:2"))


def test_this_machines_own_addresses_are_known():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        try:
            out.connect(("192.0.2.200", 9))
        except OSError:
            pytest.skip("no network but loopback")
        mine = out.getsockname()[0]

    assert is_own(mine)
    assert is_own("127.0.0.53")
    assert not is_own("203.0.113.7")
    assert place(mine, 5) == ("localhost", 5)


@given(st.ip_addresses().map(str), st.integers(1, 65535), st.sampled_from(["", "/llm"]))
def test_a_number_takes_the_place_of_the_name_and_nothing_else_changes(number, port, path):
    numbered = with_host(f"http://gpu.local:{port}{path}", number)

    assert host_of(numbered) == number
    assert port_of(numbered) == port
    assert numbered.endswith(path)
    assert with_host(numbered, "gpu.local") == f"http://gpu.local:{port}{path}"
