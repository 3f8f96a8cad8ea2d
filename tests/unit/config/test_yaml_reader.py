from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from penstock.config.located_values import LocatedValue, RawText, build_nested, merge_trees
from penstock.config.yaml_reader import expand_variables, read_yaml


def read(text: str, **variables: str) -> tuple[LocatedValue, list[str]]:
    tree, errors = read_yaml(text, Path("p.yaml"), variables.get)
    return tree, [str(error) for error in errors]


def test_every_value_knows_its_line() -> None:
    tree, errors = read("server:\n  port: 1\n\n  # comment\n  host: a\nlist:\n  - x\n  - y\n")
    assert not errors
    lines = {("server", "port"): 2, ("server", "host"): 5, ("list", 1): 8, ("server",): 1}
    for keys, line in lines.items():
        node = tree.find(keys)
        assert node is not None
        assert node.source == f"file p.yaml:{line}"


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "null", "~", "\ufeff".strip("\ufeff")])
def test_an_empty_file_sets_nothing(text: str) -> None:
    tree, errors = read(text)
    assert (tree.value, errors) == ({}, [])


@pytest.mark.parametrize("text", ["just words", "[1, 2]", "- a\n- b", "5"])
def test_a_file_without_sections_is_refused(text: str) -> None:
    tree, errors = read(text)
    assert tree.value == {}
    assert errors == ["p.yaml:1 must consist of sections such as server: and llm:."]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a:\n  b: [1\nc: 2", 3),
        ("a:\n\tb: 1", 2),
        ("a: 'x\n", 2),
        ("a: *nowhere", 1),
        ("a: {url: ${NAME}}", 1),
        ("a: 1\n---\nb: 2\n", 2),
        ("x: 1\na: !!python/object:os.system {}", 2),
        ("a: !!python/object/apply:os.system [ls]", 1),
        ("a: !!python/name:os.system", 1),
        ("x: 1\na: \x07", 2),
    ],
)
def test_invalid_yaml_is_refused_with_its_line(text: str, line: int) -> None:
    _, errors = read(text)
    assert len(errors) >= 1
    assert errors[0].startswith((f"p.yaml:{line} ", f"p.yaml:{line}: "))


def test_a_key_written_twice_is_refused_with_both_lines() -> None:
    _, errors = read("server:\n  port: 1\n  host: a\n  port: 2\n")
    assert errors == ["p.yaml:4: server.port is set twice; it is set in line 2 already."]


def test_a_key_that_is_not_text_is_refused() -> None:
    _, errors = read("server:\n  ? [a, b]\n  : 1\n")
    assert errors == ["p.yaml:2: server has a key that is not text."]


def test_keys_are_taken_as_written_even_where_yaml_would_read_a_number_or_a_flag() -> None:
    tree, _ = read("models:\n  1: a\n  yes: b\n  null: c\n  3.5: d\n")
    models = tree.find(("models",))
    assert models is not None
    assert list(models.value) == ["1", "yes", "null", "3.5"]


def test_anchors_and_merge_keys_work_and_are_no_repetition() -> None:
    tree, errors = read("base: &b {host: x, port: 1}\nserver:\n  <<: *b\n  port: 2\n")
    assert not errors
    assert tree.to_plain()["server"] == {"host": "x", "port": 2}


@pytest.mark.parametrize("text", ["a: &a\n  b: *a\n", "a: &a [1, *a]\n", "a: &a {<<: *a, x: 1}\n", "a: &a\n- - *a\n"])
def test_a_value_that_contains_itself_does_not_hang(text: str) -> None:
    tree, errors = read(text)
    assert len(errors) <= 1
    assert set(tree.value) <= {"a"}


@pytest.mark.parametrize("depth", [40, 200, 300, 400, 500, 5000])
def test_deep_nesting_is_an_error_and_no_crash(depth: int) -> None:
    _, errors = read("a: " + "[" * depth + "]" * depth)
    assert len(errors) == 1
    assert "nested too deeply" in errors[0]


def test_a_variable_takes_the_place_of_its_reference() -> None:
    tree, errors = read("a: ${HOST}:${PORT}\nb: '${PORT}'\n", HOST="h", PORT="8000")
    assert not errors
    assert tree.to_plain() == {"a": "h:8000", "b": "8000"}
    assert isinstance(tree.to_plain()["b"], RawText)


def test_a_variable_that_is_not_set_is_an_error_with_its_line() -> None:
    _, errors = read("a: 1\nb: ${MISSING}\n")
    assert errors == ["p.yaml:2: b needs the variable MISSING, which is not set; set it, or write ${MISSING:-default}."]


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("${A}", "1"),
        ("${A}${A}", "11"),
        ("x${A}y", "x1y"),
        ("${NO:-d}", "d"),
        ("${EMPTY:-d}", "d"),
        ("${NO:-}", ""),
        ("${A:-d}", "1"),
        ("${NO:-http://h:1/x}", "http://h:1/x"),
        ("$${A}", "${A}"),
        ("$A", "$A"),
        ("pa$$word", "pa$$word"),
        ("100$", "100$"),
    ],
)
def test_references_are_expanded(text: str, expanded: str) -> None:
    assert expand_variables(text, {"A": "1", "EMPTY": ""}.get) == expanded


@pytest.mark.parametrize("text", ["${", "${}", "${1A}", "${A", "${A-b}", "${A:b}", "${ A }"])
def test_a_malformed_reference_says_what_to_write(text: str) -> None:
    with pytest.raises(ValueError, match=r"write \$\{NAME\}"):
        expand_variables(text, {"A": "1"}.get)


def test_a_value_is_not_expanded_again() -> None:
    assert expand_variables("${A}", {"A": "${B}", "B": "no"}.get) == "${B}"


@given(st.text(alphabet=st.characters(exclude_characters="$", exclude_categories=["Cs"])))
def test_text_without_a_dollar_sign_stays_as_it_is(text: str) -> None:
    assert expand_variables(text, {}.get) == text


@given(
    st.lists(
        st.one_of(
            st.text(alphabet="abc :/-", max_size=5).map(lambda text: (text, text)),
            st.sampled_from([("${ONE}", "1"), ("${TWO:-x}", "2"), ("${NO:-x y}", "x y"), ("$${NO}", "${NO}")]),
        )
    )
)
def test_references_between_other_text_are_expanded_one_by_one(parts: list[tuple[str, str]]) -> None:
    written, meant = "".join(part[0] for part in parts), "".join(part[1] for part in parts)
    assert expand_variables(written, {"ONE": "1", "TWO": "2"}.get) == meant


scalars = st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.text(alphabet="abcdef xyz:#-'\"", max_size=8)
keys = st.text(alphabet="abcdefgh_", min_size=1, max_size=6).filter(lambda key: key != "<<")
documents = st.dictionaries(
    keys,
    st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3)),
    max_size=4,
)


@given(documents)
def test_any_document_is_read_as_yaml_reads_it(document: dict[str, object]) -> None:
    tree, errors = read(yaml.safe_dump(document))
    assert not errors
    assert tree.to_plain() == document


@given(documents, documents)
def test_in_a_merged_tree_the_upper_one_wins_and_nothing_else_is_lost(
    lower: dict[str, object], upper: dict[str, object]
) -> None:
    merged = merge_trees(build_nested((), lower, "lower"), build_nested((), upper, "upper")).to_plain()
    for key in lower.keys() | upper.keys():
        if key not in upper:
            assert merged[key] == lower[key]
        elif not (isinstance(upper[key], dict) and isinstance(lower.get(key), dict)):
            assert merged[key] == upper[key]


@given(st.binary(max_size=200))
def test_any_text_is_read_or_reported_but_never_a_crash(data: bytes) -> None:
    tree, _ = read(data.decode("utf-8", "replace"))
    assert isinstance(tree.value, dict)
