"""Where the rest of an answer meets its beginning: nothing doubled, nothing lost, however either is cut."""

import itertools

from hypothesis import assume, example, given
from hypothesis import strategies as st

from penstock.gateway.upstream.relay.resumable import Joint

TEXTS = st.text(alphabet=st.sampled_from("ab \n\t.«щ🚢"), max_size=200) | st.text(max_size=200)


def pieces(text: str, cuts: list[int]) -> list[str]:
    at = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[a:b] for a, b in itertools.pairwise(at)]


def joined(said: str, rest: list[str]) -> str:
    joint = Joint(said)
    return said + "".join(joint.add(piece) for piece in rest) + joint.flush()


@given(TEXTS, st.integers(0, 200), st.lists(st.integers(0, 300), max_size=8))
@example("a  b", 2, [1])
@example("a\n\n\nb", 3, [])
def test_an_engine_that_goes_on_from_the_trimmed_beginning_completes_the_text(text, cut, cuts):
    said = text[:cut]
    begun = said.rstrip()
    assume(not text[len(begun) :].startswith(begun) or len(begun) < 64)
    assert joined(said, pieces(text[len(begun) :], cuts)) == text


@given(st.text(min_size=64, max_size=200), st.text(max_size=80), st.lists(st.integers(0, 300), max_size=8))
def test_an_engine_that_says_the_beginning_again_is_not_heard_twice(said, rest, cuts):
    assume(len(said.rstrip()) >= 64)
    assume(said.rstrip() not in (said.rstrip() * 2)[1:-1])
    assume(not any(said.rstrip().endswith(said[:size]) for size in (16, 32)))
    assert joined(said, pieces(said + rest, cuts)) == said + rest


@given(st.integers(1, 8), st.integers(64, 200), st.lists(st.integers(0, 300), max_size=8))
def test_a_text_that_repeats_itself_is_not_taken_for_one_that_starts_anew(period, size, cuts):
    text = ("ab-=cd+e"[:period] * 400)[: size * 3]
    assert joined(text[:size], pieces(text[size:], cuts)) == text
