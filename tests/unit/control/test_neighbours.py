"""Which of what was found on the network becomes a server."""

import re

from hypothesis import given
from hypothesis import strategies as st

from penstock.control.discovery.deduplication import MOST, Candidate, announced, choose, fit_name
from penstock.control.discovery.dns_sd import Service
from penstock.control.discovery.name_resolution import touches
from penstock.domain.fleet import Priority

PLACES = st.frozensets(st.tuples(st.sampled_from(["localhost", "10.0.0.1", "10.0.0.2"]), st.integers(1, 3)), max_size=3)
CANDIDATES = st.lists(
    st.builds(
        Candidate,
        st.sampled_from(["a", "b", "primary", "a-2"]),
        st.sampled_from([f"http://h{n}:1" for n in range(9)]),
        PLACES,
    ),
    max_size=9,
    unique_by=lambda one: one.url,
)
NAMES = st.frozensets(st.sampled_from(["primary", "a", "a-2"]))


def candidate(name: str, url: str, *hosts: str) -> Candidate:
    return Candidate(name, url, frozenset((host, 11434) for host in hosts))


def test_a_server_announced_is_called_by_its_name_and_watched_by_its_hosts():
    service = Service("Ollama @ GPU box №1", "gpu.local", 11434, ("10.0.0.7",))

    (server,) = choose([announced(service, frozenset({("10.0.0.7", 11434)}))], frozenset(), ())

    assert (server.name, server.urls) == ("Ollama-GPU-box-1", ("http://gpu.local:11434",))
    assert (server.kind, server.priority, server.configured) == ("ollama", Priority.SECONDARY, False)


def test_what_is_known_already_is_not_found_again():
    known = frozenset({("10.0.0.7", 11434), ("localhost", 11434)})

    assert choose([candidate("x", "http://gpu.local:11434", "10.0.0.7", "10.0.0.8")], known, ()) == ()
    assert choose([candidate("x", "http://gpu.local:11434")], known, ()) == ()


def test_two_ways_to_one_server_are_one_server():
    both = [
        candidate("ollama.local", "http://ollama.local:11434", "10.0.0.7"),
        candidate("ollama", "http://ollama:11434", "10.0.0.7"),
    ]

    assert [server.name for server in choose(both, frozenset(), ())] == ["ollama.local"]


def test_what_was_chosen_before_keeps_its_name_and_goes_first():
    first = choose([candidate("10.0.0.7", "http://10.0.0.7:11434", "10.0.0.7")], frozenset(), ())
    news = [
        candidate("gpu", "http://gpu.local:11434", "10.0.0.7"),
        candidate("10.0.0.7", "http://10.0.0.7:11434", "10.0.0.7"),
    ]

    assert choose(news, frozenset(), (), first) == first


@given(CANDIDATES, PLACES, NAMES, CANDIDATES)
def test_every_server_has_a_name_and_a_place_of_its_own(candidates, taken, names, earlier):
    before = choose(earlier, frozenset(), ())
    chosen = choose(candidates, taken, names, before)
    places = {one.url: one.places for one in candidates}

    assert len({server.name for server in chosen} | names) == len(chosen) + len(names)
    for index, server in enumerate(chosen):
        assert places[server.url]
        assert not touches(places[server.url], taken)
        assert not any(touches(places[server.url], places[other.url]) for other in chosen[:index])
    assert choose(candidates, taken, names, before) == chosen


@given(CANDIDATES, PLACES, NAMES)
def test_choosing_again_changes_nothing(candidates, taken, names):
    chosen = choose(candidates, taken, names)

    assert choose(candidates, taken, names, chosen) == chosen


@given(CANDIDATES, PLACES)
def test_nothing_is_left_out_without_a_reason(candidates, taken):
    chosen = {server.url for server in choose(candidates, taken, ())}
    occupied = taken.union(*(one.places for one in candidates if one.url in chosen))

    for one in candidates:
        assert one.url in chosen or not one.places or touches(one.places, occupied)


def test_a_network_that_announces_too_much_is_bounded():
    many = [candidate(f"s{n}", f"http://s{n}:11434", f"10.0.{n // 250}.{n % 250}") for n in range(MOST + 50)]

    assert len(choose(many, frozenset(), ())) == MOST


@given(st.text(max_size=100), st.text(max_size=30))
def test_any_name_becomes_one_that_servers_may_have(wish, other):
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,55}", fit_name(wish, other))
