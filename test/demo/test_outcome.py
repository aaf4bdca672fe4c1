"""The ends of a run: how many promises held and what kept them from it, or a rate that is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from robust_perception.demo.promises import Promise
from robust_perception.engine.threads import usable_cores

pytest.importorskip("rclpy", reason="rclpy is not installed")

from robust_perception.demo.command import main, outcome, prepared

KEPT, BROKEN = (Promise("rgb degraded", "at most 500 ms", "seen", held) for held in (True, False))


def test_a_broken_promise_comes_with_load_and_cores() -> None:
    text = outcome([KEPT, BROKEN, KEPT], (0.25, 7.5))
    assert text.startswith("2 of 3 promises held; ")
    numbers = [float(number) for number in re.findall(r"[\d.]+(?= before| at|\s+cores)", text)]
    assert numbers == [0.2, 7.5, usable_cores()]


def test_kept_promises_need_no_hint() -> None:
    assert outcome([KEPT, KEPT], (9.0, 9.0)) == "2 of 2 promises held"


@pytest.mark.parametrize("rate", ["500", "0.05", "nan", "fast"])
def test_a_rate_that_the_simulation_refuses_leaves_an_earlier_run_alone(
    rate: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mujoco", reason="mujoco is not installed")
    out = prepared(tmp_path / "run")
    (out / "report.html").touch()
    with pytest.raises(SystemExit) as ended:
        main(["--rate", rate, "--out", str(out)])
    assert ended.value.code == 2
    assert "--rate: " in capsys.readouterr().err
    assert (out / "report.html").is_file()
