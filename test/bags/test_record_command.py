"""`robust-perception bag record`: what it refuses, and that it is the node, defaults included."""

from __future__ import annotations

import json

import pytest

from robust_perception.bag import main


@pytest.mark.parametrize("option", ["--split-seconds", "--duration", "--progress", "--split-mb"])
def test_a_number_below_zero_is_told_by_the_name_it_was_given(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["record", option, "-1"])
    assert ended.value.code == 2
    assert f"argument {option}: expected" in capsys.readouterr().err


def test_what_nobody_says_is_as_the_node_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rclpy", reason="rclpy is not installed")
    from robust_perception.ros import recorder_node

    given: list[str] = []
    monkeypatch.setattr(recorder_node, "main", lambda words: given.extend(words) or 0)
    assert main(["record"]) == 0
    defaults = {row.name: row.default for row in recorder_node.RECORDER}
    said = dict(word.split(":=", 1) for word in given if ":=" in word)
    assert said
    assert {name: json.loads(value) for name, value in said.items()} == {n: defaults[n] for n in said}
