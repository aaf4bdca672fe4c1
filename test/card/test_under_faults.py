"""Every fault is felt, and one that could not act is not told as harmless."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import small_folder
from tiny_model import make_model

from robust_perception.bags.dataset import write_dataset
from robust_perception.card.measure import RATE_HZ
from robust_perception.card.under_faults import LEAD_S, Case, Stage, cases, measure
from robust_perception.datasets import FolderDataset
from robust_perception.engine.engine import Engine
from robust_perception.evaluation.bag_source import BagSource
from robust_perception.evaluation.stream import Slides
from robust_perception.faults.script import FaultScript
from robust_perception.faults.severities import SEVERITIES, generated
from robust_perception.vocabulary import MODALITIES, Modality, SensorFrame


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> FolderDataset:
    return FolderDataset(small_folder.write(tmp_path_factory.mktemp("folder") / "data", 4), "test")


def arrived(slides: Slides, script: FaultScript, sensor: Modality) -> list[tuple[int, int, bytes]]:
    script.reset()
    frames = [(a.time_ns, a.frame) for a in slides.arrivals(script, LEAD_S)]
    return [
        (t, f.end_ns, f.data.tobytes())
        for t, f in frames
        if isinstance(f, SensorFrame) and f.modality is sensor
    ]


@pytest.mark.parametrize("severity", SEVERITIES)
def test_every_fault_changes_frames_or_arrivals_of_a_slide_show(
    dataset: FolderDataset, severity: str
) -> None:
    for case in {*cases(MODALITIES, Modality.RGB), *cases(MODALITIES, Modality.THERMAL)}:
        for sensor in case.sensors:
            slides = Slides(dataset, range(4), RATE_HZ, modalities=[sensor], keep=4)
            script = generated(case.kind, severity, [sensor], LEAD_S + slides.seconds + 60.0)
            clean = arrived(slides, FaultScript(), sensor)
            assert arrived(slides, script, sensor) != clean, f"{severity} {case.kind} on {sensor}"


@pytest.fixture(scope="module")
def faults(dataset: FolderDataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Faults on a bag of 0.3 s whose sound nobody describes."""
    root = tmp_path_factory.mktemp("bag")
    engine = Engine.load(make_model(root / "tiny"), threads=1)
    write_dataset(dataset, root / "bag", rate=10.0, labels=True)
    source = BagSource(root / "bag", MODALITIES, engine.manifest.class_names, ())
    source._audio_info = None
    stage = Stage(source, engine, 1.0)
    listed = [
        Case("noise", (Modality.AUDIO,), False),
        Case("noise", (Modality.DEPTH,), False),
        Case("freeze", (Modality.RGB,), True),
    ]
    return measure(engine, listed, stage, stage, 0, lambda done, of: None)


@pytest.fixture(scope="module")
def rows(faults: dict[str, Any]) -> dict[str, Any]:
    return {f"{row['kind']} {row['sensors'][0]}": row["severities"] for row in faults["rows"]}


def test_a_fault_costs_what_is_missing_to_the_same_without_it(
    faults: dict[str, Any], rows: dict[str, Any]
) -> None:
    for row in faults["rows"][1:]:
        clean = faults["clean"]["timed" if row["timed"] else "still"]["foreground_miou"]
        severe = row["severities"]["severe"]
        assert clean - severe["points_lost"] == pytest.approx(severe["foreground_miou"])
    assert rows["freeze rgb"]["severe"]["points_lost"] > 40.0


def test_a_fault_that_could_not_act_is_not_known_and_says_why(rows: dict[str, Any]) -> None:
    assert "reason" not in rows["noise depth"]["severe"]
    sound, frozen = rows["noise audio"]["mild"], rows["freeze rgb"]["mild"]
    assert sound["reason"].startswith("audio: expected the sample format on /audio_info")
    assert frozen["reason"] == "rgb: the fault met no frame", "the bag is shorter than the pause before it"
    assert "reason" not in rows["freeze rgb"]["severe"]
    for figures in (sound, frozen):
        assert all(np.isnan(figures[name]) for name in ("foreground_miou", "map50", "points_lost"))
