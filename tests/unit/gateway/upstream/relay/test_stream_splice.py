"""Junction of a text and its continuation: nothing doubled, nothing lost, wherever either is cut."""

import itertools

from hypothesis import assume, example, given
from hypothesis import strategies as st

from penstock.gateway.upstream.relay.stream_splice import StreamSplice

TEXTS = st.text(alphabet=st.sampled_from("ab \n\t.«щ🚢"), max_size=200) | st.text(max_size=200)


def pieces(text: str, cuts: list[int]) -> list[str]:
    at = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[a:b] for a, b in itertools.pairwise(at)]


def splice_text(sent_text: str, rest: list[str]) -> str:
    splice = StreamSplice(sent_text)
    return sent_text + "".join(splice.add_text(piece) for piece in rest) + splice.flush()


@given(TEXTS, st.integers(0, 200), st.lists(st.integers(0, 300), max_size=8))
@example("a  b", 2, [1])
@example("a\n\n\nb", 3, [])
def test_a_server_that_continues_from_the_trimmed_beginning_completes_the_text(text, cut, cuts):
    sent_text = text[:cut]
    trimmed = sent_text.rstrip()
    assume(not text[len(trimmed) :].startswith(trimmed) or len(trimmed) < 64)
    assert splice_text(sent_text, pieces(text[len(trimmed) :], cuts)) == text


@given(st.text(min_size=64, max_size=200), st.text(max_size=80), st.lists(st.integers(0, 300), max_size=8))
def test_a_server_that_sends_the_beginning_again_does_not_double_it(sent_text, rest, cuts):
    assume(len(sent_text.rstrip()) >= 64)
    assume(sent_text.rstrip() not in (sent_text.rstrip() * 2)[1:-1])
    assume(not any(sent_text.rstrip().endswith(sent_text[:size]) for size in (16, 32)))
    assert splice_text(sent_text, pieces(sent_text + rest, cuts)) == sent_text + rest


@given(st.integers(1, 8), st.integers(64, 200), st.lists(st.integers(0, 300), max_size=8))
def test_a_text_that_repeats_itself_is_not_taken_for_one_that_starts_anew(period, size, cuts):
    text = ("ab-=cd+e"[:period] * 400)[: size * 3]
    assert splice_text(text[:size], pieces(text[size:], cuts)) == text
