"""`penstock classify`: lines in, lines out."""

import io
import json

import pytest

from penstock.cli import classify


def test_each_line_is_answered_in_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [json.dumps({"text": text}).encode() + b"\n" for text in ("Привет!", "Design Twitter", "Привет!")]
    assert classify.classify_lines(source=lines) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["level"] for answer in answers] == ["trivial", "complex", "trivial"]
    assert set(answers[0]) == {"level", "task_type", "scores"}
    assert sum(answers[1]["scores"].values()) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("bad", [b"no json", b'{"texts": "x"}', b'{"text": 5}', b"[]", b'{"text": "\xff"}'])
def test_a_bad_line_is_named_by_its_number(bad: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    out = io.StringIO()
    assert classify.classify_lines(source=[b'{"text": "hi"}\n', b"\n", bad], target=out) == 1
    assert "Line 3" in capsys.readouterr().err
    assert len(out.getvalue().splitlines()) == 1
