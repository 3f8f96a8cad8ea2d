"""Selection of new servers among those found on the network."""

import re

from hypothesis import given
from hypothesis import strategies as st

from penstock.control.discovery.deduplication import (
    MAX_FOUND_SERVERS,
    FoundServer,
    from_service,
    make_server_name,
    select_new_servers,
)
from penstock.control.discovery.dns_sd import Service
from penstock.control.discovery.name_resolution import overlaps
from penstock.domain.fleet import Priority

ADDRESSES = st.frozensets(
    st.tuples(st.sampled_from(["localhost", "10.0.0.1", "10.0.0.2"]), st.integers(1, 3)), max_size=3
)
FOUND = st.lists(
    st.builds(
        FoundServer,
        st.sampled_from(["a", "b", "primary", "a-2"]),
        st.sampled_from([f"http://h{n}:1" for n in range(9)]),
        ADDRESSES,
    ),
    max_size=9,
    unique_by=lambda server: server.url,
)
NAMES = st.frozensets(st.sampled_from(["primary", "a", "a-2"]))


def found_server(name: str, url: str, *hosts: str) -> FoundServer:
    return FoundServer(name, url, frozenset((host, 11434) for host in hosts))


def test_an_announced_server_has_the_services_name_and_its_hosts_url():
    service = Service("Ollama @ GPU box №1", "gpu.local", 11434, ("10.0.0.7",))

    (server,) = select_new_servers([from_service(service, frozenset({("10.0.0.7", 11434)}))], frozenset(), ())

    assert (server.name, server.urls) == ("Ollama-GPU-box-1", ("http://gpu.local:11434",))
    assert (server.kind, server.priority, server.is_configured) == ("ollama", Priority.SECONDARY, False)


def test_known_addresses_are_not_selected_again():
    known = frozenset({("10.0.0.7", 11434), ("localhost", 11434)})

    assert select_new_servers([found_server("x", "http://gpu.local:11434", "10.0.0.7", "10.0.0.8")], known, ()) == ()
    assert select_new_servers([found_server("x", "http://gpu.local:11434")], known, ()) == ()


def test_two_urls_of_one_address_are_one_server():
    both = [
        found_server("ollama.local", "http://ollama.local:11434", "10.0.0.7"),
        found_server("ollama", "http://ollama:11434", "10.0.0.7"),
    ]

    assert [server.name for server in select_new_servers(both, frozenset(), ())] == ["ollama.local"]


def test_what_was_selected_before_keeps_its_name_and_goes_first():
    first = select_new_servers([found_server("10.0.0.7", "http://10.0.0.7:11434", "10.0.0.7")], frozenset(), ())
    news = [
        found_server("gpu", "http://gpu.local:11434", "10.0.0.7"),
        found_server("10.0.0.7", "http://10.0.0.7:11434", "10.0.0.7"),
    ]

    assert select_new_servers(news, frozenset(), (), first) == first


@given(FOUND, ADDRESSES, NAMES, FOUND)
def test_every_server_has_a_name_and_an_address_of_its_own(found, taken, names, earlier):
    before = select_new_servers(earlier, frozenset(), ())
    selected = select_new_servers(found, taken, names, before)
    addresses = {server.url: server.addresses for server in found}

    assert len({server.name for server in selected} | names) == len(selected) + len(names)
    for index, server in enumerate(selected):
        assert addresses[server.url]
        assert not overlaps(addresses[server.url], taken)
        assert not any(overlaps(addresses[server.url], addresses[other.url]) for other in selected[:index])
    assert select_new_servers(found, taken, names, before) == selected


@given(FOUND, ADDRESSES, NAMES)
def test_selecting_again_changes_nothing(found, taken, names):
    selected = select_new_servers(found, taken, names)

    assert select_new_servers(found, taken, names, selected) == selected


@given(FOUND, ADDRESSES)
def test_only_servers_without_a_free_address_are_left_out(found, taken):
    selected = {server.url for server in select_new_servers(found, taken, ())}
    occupied = taken.union(*(server.addresses for server in found if server.url in selected))

    for server in found:
        assert server.url in selected or not server.addresses or overlaps(server.addresses, occupied)


def test_the_number_of_servers_is_bounded():
    count = range(MAX_FOUND_SERVERS + 50)
    many = [found_server(f"s{n}", f"http://s{n}:11434", f"10.0.{n // 250}.{n % 250}") for n in count]

    assert len(select_new_servers(many, frozenset(), ())) == MAX_FOUND_SERVERS


@given(st.text(max_size=100), st.text(max_size=30))
def test_any_text_becomes_a_valid_server_name(wish, other):
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,55}", make_server_name(wish, other))
