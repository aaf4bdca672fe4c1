"""benchmarks/blindness.py tells what a blinded sensor costs beside a sensor that is absent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import small_folder
from tiny_model import make_model

from benchmarks import blindness, performance_page


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("blindness")
    model = make_model(folder / "tiny")
    data = small_folder.write(folder / "data", 2)
    words = ["--model", str(model), "--data", str(data), "--split", "test", "--json", str(folder / "f.json")]
    assert blindness.main(words) == 0
    found: dict[str, object] = json.loads((folder / "f.json").read_text())
    return found


def test_every_sensor_is_blinded_step_by_step(measured: dict[str, object]) -> None:
    assert measured["frames"] == 2
    sensors = measured["sensors"]
    assert isinstance(sensors, list)
    assert [sensor["sensor"] for sensor in sensors] == ["rgb", "depth", "thermal"]
    for sensor in sensors:
        values = [step["shown"] for step in sensor["steps"]]
        assert values == sorted(values, reverse=True), "less and less is left"
        assert {step["left"] for step in sensor["steps"]} == set(blindness.STEPS)
        assert all(0.0 <= step["miou"] <= 100.0 for step in sensor["steps"])
    # The tiny model is right with every subset, and its evidence is the mean over the sensors that are there.
    assert measured["all"] == pytest.approx(100.0)
    assert [sensor["without"] for sensor in sensors] == pytest.approx([100.0] * 3)
    assert min(step["miou"] for sensor in sensors for step in sensor["steps"]) < 99.0


def test_a_page_has_a_row_a_step(measured: dict[str, object], tmp_path: Path) -> None:
    records = tmp_path / "blindness.json"
    records.write_text(json.dumps(measured))
    lines = performance_page.figures_of(records).splitlines()
    assert lines[0].startswith("Model tiny (")
    assert len([line for line in lines if line.startswith("| rgb |")]) == len(blindness.STEPS)


def test_data_that_cannot_tell_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = make_model(tmp_path / "tiny")
    data = small_folder.write(tmp_path / "data", 1)
    for label in (data / "test" / "label").iterdir():
        label.unlink()
    assert blindness.main(["--model", str(model), "--data", str(data), "--split", "test"]) == 1
    assert "expected frames of test with a label map" in capsys.readouterr().err
