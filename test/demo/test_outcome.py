"""The ends of a run: promises that held, what kept the others from it, or what is refused before it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from robust_perception.demo.promises import Promise
from robust_perception.demo.timeline import script_end
from robust_perception.engine.threads import usable_cores
from robust_perception.faults.file import parse
from robust_perception.faults.script import FaultScript

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


@pytest.mark.parametrize("kind", ["loss", "freeze"])
def test_a_sensor_that_never_comes_back_is_refused(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "open.yaml"
    script.write_text(f"faults: [{{at: 2.0, sensor: rgb, fault: {kind}}}]")
    assert main(["--faults", str(script), "--out", str(tmp_path / "run")]) == 1
    said = capsys.readouterr().err
    assert f"open.yaml: expected 'until', or a later return, got {kind} of rgb from 2 s on for good" in said
    assert not (tmp_path / "run").exists()


def test_a_run_sees_what_has_no_end_begin() -> None:
    faults, seed = parse("faults: [{at: 3.0, sensor: rgb, fault: noise, sigma: 5}]", "open")
    assert script_end(FaultScript(faults, seed)) == 3.0
