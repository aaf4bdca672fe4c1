"""What the maker writes, the reader of data folders reads back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robust_perception.datasets import FolderDataset
from robust_perception.simulation.classes import CLASS_NAMES, SCENE_NAMES
from robust_perception.vocabulary import MODALITIES, Modality

COUNT = 6


@pytest.fixture(scope="module")
def folder(rig: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from robust_perception.simulation.make_dataset import main

    root = tmp_path_factory.mktemp("made")
    assert main(["--out", str(root), "--seed", "3", "--train", str(COUNT), "--val", "2", "--test", "0"]) == 0
    return root


def test_the_layout_is_read_back(rig: Any, folder: Path) -> None:
    data = FolderDataset(folder, "train")
    assert len(data) == COUNT
    assert data.class_names == CLASS_NAMES
    assert data.scene_names == SCENE_NAMES
    assert data.modalities == MODALITIES
    assert len(FolderDataset(folder, "val")) == 2
    assert not (folder / "test").exists()


def test_frames_survive_the_files(rig: Any, folder: Path) -> None:
    for index, sample in enumerate(FolderDataset(folder, "train")):
        seed = 3_000_000 + index
        rig.reset(seed)
        rig.step(float(np.random.default_rng([seed, 2]).uniform(0, 20.0)))
        made = rig.capture()
        np.testing.assert_array_equal(sample.label, made.label)
        np.testing.assert_array_equal(sample.boxes, made.boxes)
        np.testing.assert_array_equal(sample.class_ids, made.class_ids)
        np.testing.assert_array_equal(sample.scene, made.scene)
        read = {m: sample.frames[m].data for m in MODALITIES}
        depth, thermal, sound = (made.frames[m].data for m in MODALITIES[1:])
        np.testing.assert_array_equal(np.isnan(read[Modality.DEPTH]), np.isnan(depth))
        np.testing.assert_allclose(read[Modality.DEPTH], depth, atol=0.00051)
        np.testing.assert_allclose(read[Modality.THERMAL], thermal, atol=0.5 / 64 + 1e-4)
        np.testing.assert_allclose(read[Modality.AUDIO], sound, atol=1.01 / 32768)
        rgb = made.frames[Modality.RGB].data.astype(float)
        assert np.abs(read[Modality.RGB].astype(float) - rgb).mean() < 4


def test_a_folder_with_frames_is_not_written_over(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from robust_perception.simulation.make_dataset import main

    assert main(["--out", str(folder), "--train", "1", "--val", "0", "--test", "0"]) == 1
    assert "expected an empty or missing folder" in capsys.readouterr().err


def test_another_data_set_is_left_alone(rig: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from robust_perception.simulation.make_dataset import main

    (tmp_path / "classes.json").write_text("mine")
    (tmp_path / "test" / "rgb").mkdir(parents=True)
    assert main(["--out", str(tmp_path), "--train", "1", "--val", "0", "--test", "0"]) == 1
    assert "classes.json: expected none or that of the simulator" in capsys.readouterr().err
    assert (tmp_path / "classes.json").read_text() == "mine"
    (tmp_path / "classes.json").unlink()
    (tmp_path / "test" / "rgb" / "mine.png").touch()
    assert main(["--out", str(tmp_path), "--train", "1", "--val", "0", "--test", "1"]) == 1
    assert not (tmp_path / "train").exists(), "found out before an hour's work"


def test_a_folder_that_cannot_be_made_is_named(
    rig: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from robust_perception.simulation.make_dataset import main

    (tmp_path / "file").touch()
    assert main(["--out", str(tmp_path / "file"), "--train", "1", "--val", "0", "--test", "0"]) == 1
    assert "expected a folder that can be written, got" in capsys.readouterr().err


def test_wrong_counts_are_refused(rig: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from robust_perception.simulation.make_dataset import main

    assert main(["--out", str(tmp_path / "x"), "--train", "-1"]) == 1
    assert "0 to 100000 frames a split" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
