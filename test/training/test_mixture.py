"""Several data folders with sensors and classes of their own are read as one, and train together."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import small_data
import torch

from robust_perception import export
from robust_perception import train as command
from robust_perception.datasets import DatasetError, FolderDataset
from robust_perception.engine.manifest import Manifest
from robust_perception.evaluation.segmentation import ConfusionMatrix
from robust_perception.exporting.references import reference_inputs
from robust_perception.model.heads import Detections
from robust_perception.model.network import Network, Outputs
from robust_perception.preprocess import prepare
from robust_perception.training import log, loop
from robust_perception.training.checkpoint import load_weights
from robust_perception.training.config import LossConfig
from robust_perception.training.errors import ConfigError, ExportError
from robust_perception.training.loader import Loader
from robust_perception.training.mixture import MixedDataset
from robust_perception.training.objective import task_losses
from robust_perception.training.regions import regions_of
from robust_perception.training.statistics import measure
from robust_perception.training.targets import assign
from robust_perception.training.validation import measured_frames, validate
from robust_perception.vocabulary import UNLABELLED, Modality, Pattern

RGB, DEPTH, THERMAL, AUDIO = Modality
WARM, COLD, TALL = 1, 2, 3


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Colour, thermal, sound; colour, depth. The first has a frame without labels, one without thermal."""
    folder = tmp_path_factory.mktemp("data")
    first = small_data.write(folder / "first", train=5)
    for split in ("train", "val"):
        for path in (first / split / "depth").iterdir():
            path.unlink()
    (first / "train" / "label" / "001.png").unlink()
    scene = json.loads((first / "train" / "scene.json").read_text())
    del scene["001"]
    (first / "train" / "scene.json").write_text(json.dumps(scene))
    (first / "train" / "thermal" / "002.png").unlink()
    return first, small_data.write_other(folder / "second")


@pytest.fixture(scope="module")
def mixed(roots: tuple[Path, Path]) -> MixedDataset:
    return MixedDataset.open(roots, "train")


def test_names_are_united_in_the_order_of_first_appearance(mixed: MixedDataset) -> None:
    assert mixed.class_names == ("background", "warm", "cold", "tall")
    assert mixed.scene_names == ("tone", "noise", "silence")
    assert mixed.modalities == tuple(Modality)
    assert len(mixed) == len(mixed.names) == 9
    assert mixed.names[0] == "first/000"
    assert mixed.names[5] == "second/000"


def test_indices_are_those_of_the_union(mixed: MixedDataset, roots: tuple[Path, Path]) -> None:
    own, other = FolderDataset(roots[1], "train")[2], mixed[7]
    assert own.label is not None
    assert other.label is not None
    assert own.class_ids is not None
    assert other.class_ids is not None
    assert set(np.unique(own.label).tolist()) == {0, 1}
    np.testing.assert_array_equal(other.label, np.where(own.label == 1, COLD, 0))
    assert other.label.dtype == np.uint8
    assert set(other.class_ids.tolist()) == {COLD}
    assert other.class_ids.dtype == np.int64
    np.testing.assert_array_equal(other.boxes, own.boxes)
    first = FolderDataset(roots[0], "train")[3]
    np.testing.assert_array_equal(mixed[3].label, first.label)
    assert [sample.name for sample in mixed[4:6]] == ["first/004", "second/000"]
    assert len({frame.stamp_ns for sample in mixed for m, frame in sample.frames.items() if m is RGB}) == 9


def test_what_a_folder_does_not_list_is_unknown(mixed: MixedDataset) -> None:
    assert mixed.known_classes(0).tolist() == [True, True, True, False]
    assert mixed.known_classes(8).tolist() == [True, False, True, True]
    np.testing.assert_array_equal(mixed[0].scene, [1, 0, np.nan])
    np.testing.assert_array_equal(mixed[5].scene, [np.nan, 0, 1])
    assert mixed[1].scene is None
    assert mixed.ground_truth("first/001") is None
    assert mixed.ground_truth("second/001") == {COLD}


def test_what_is_known_of_a_sample_is_its_known_pixels_else_its_boxes(tmp_path: Path) -> None:
    root = small_data.write_other(tmp_path / "partly")
    label, split = root / "train" / "label", root / "train"
    some = np.full(small_data.SIZE, UNLABELLED, np.uint8)
    cv2.imwrite(str(label / "001.png"), some)
    some[:4] = 1
    cv2.imwrite(str(label / "000.png"), some)
    both = MixedDataset.open((root, small_data.write(tmp_path / "other")), "train")
    assert both.ground_truth("partly/000") == {both.class_names.index("cold")}
    assert both.ground_truth("partly/001") == frozenset(), "a scene class is known, and no object"
    box = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]}
    listed = {"images": [{"id": 1, "file_name": "001.png"}], "annotations": [box]}
    (split / "boxes_coco.json").write_text(json.dumps(listed))
    both = MixedDataset.open((root, tmp_path / "other"), "train")
    assert both.ground_truth("partly/001") == {both.class_names.index("cold")}


def test_files_are_those_of_the_parts(mixed: MixedDataset, roots: tuple[Path, Path]) -> None:
    assert mixed.path(RGB, "second/001") == roots[1] / "train" / "rgb" / "001.png"
    assert mixed.path(THERMAL, "second/001") is None
    assert mixed.path(THERMAL, "first/002") is None


def test_one_folder_alone_is_read_as_it_is(tmp_path: Path) -> None:
    part = FolderDataset(small_data.write_other(tmp_path), "train")
    alone = MixedDataset([part])
    assert alone.names == part.names
    assert alone.class_names == part.class_names == ("floor", "cold", "tall")
    assert alone.scene_names == part.scene_names
    assert bool(alone.known_classes(0).all())
    for one, two in zip(part, alone, strict=True):
        assert one.name == two.name
        assert all(frame.stamp_ns == two.frames[m].stamp_ns for m, frame in one.frames.items())
        np.testing.assert_array_equal(one.label, two.label)
        np.testing.assert_array_equal(one.class_ids, two.class_ids)
        np.testing.assert_array_equal(one.scene, two.scene)


def rename(root: Path, *names: str) -> None:
    fine = [{"id": i, "name": name} for i, name in enumerate(names)]
    (root / "classes.json").write_text(json.dumps({"fine": fine}))


def test_a_background_that_is_another_folders_thing_is_refused(tmp_path: Path) -> None:
    first = small_data.write(tmp_path / "first", train=1, val=1)
    second = small_data.write(tmp_path / "second", train=1, val=1)
    (second / "train" / "scene.json").unlink()
    rename(second, "floor", "cold", "background")
    FolderDataset(second, "train")  # alone it is allowed
    words = r"second/classes\.json: expected the background .*, got it as class 2"
    with pytest.raises(DatasetError, match=words):
        MixedDataset.open((first, second), "train")


def test_crowds_have_the_classes_of_the_union(roots: tuple[Path, Path]) -> None:
    split = roots[1] / "val"
    crowd = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "iscrowd": 1}
    listed = {"images": [{"id": 1, "file_name": "000.png"}], "annotations": [crowd]}
    (split / "boxes_coco.json").write_text(json.dumps(listed))
    mixed = MixedDataset.open(roots, "val")
    crowds = mixed[len(mixed.parts[0])].crowds
    assert [mixed.class_names[i] for i in crowds.class_ids] == ["cold"]
    assert crowds.class_ids.tolist() == [COLD]
    (split / "boxes_coco.json").unlink()


def test_parts_that_cannot_serve_are_named(roots: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="at least one data folder"):
        MixedDataset([])
    with pytest.raises(DatasetError, match=r"different folders, got .*first/train more than once"):
        MixedDataset.open((roots[0], roots[0] / ".." / "first"), "train")
    with pytest.raises(DatasetError, match=r"missing: expected a data folder, got nothing"):
        MixedDataset.open((roots[0], tmp_path / "missing"), "train")
    broken = small_data.write_other(tmp_path / "broken")
    cv2.imwrite(str(broken / "train" / "label" / "001.png"), np.full(small_data.SIZE, 9, np.uint8))
    cv2.imwrite(str(broken / "train" / "depth" / "002.png"), np.zeros((8, 8), np.uint16))
    both = MixedDataset.open((roots[0], broken), "train")
    with pytest.raises(
        DatasetError, match=r"broken/train/label/001\.png: .*below 3 .*classes\.json\), got \[9\]"
    ):
        both[6]
    with pytest.raises(
        DatasetError, match=r"broken/train: .*'002', got rgb/002\.png 64x96, depth/002\.png 8x8"
    ):
        both[7]


def test_folders_of_one_name_can_be_told_apart(tmp_path: Path) -> None:
    roots = [small_data.write(tmp_path / str(i) / "data", train=1, val=1) for i in range(3)]
    assert MixedDataset.open(roots, "train").names == ("data/000", "data-2/000", "data-3/000")


def test_a_batch_says_what_is_known_of_each_sample(mixed: MixedDataset) -> None:
    config = small_data.config(optimiser={"batch": 9})
    ((draw,),) = Loader(mixed, tuple(Modality), config, 1).epoch(0)
    batch = draw.batch
    assert batch.known_classes.shape == (9, 4)
    second = ~batch.known_classes[:, WARM]
    assert int(second.sum()) == 4
    assert [AUDIO in pattern for pattern in batch.available] == (~second).tolist()
    assert [DEPTH in pattern for pattern in batch.available] == second.tolist()
    assert sum(THERMAL in pattern for pattern in batch.available) == 4
    assert int(batch.labelled.sum()) == int(batch.boxes_known.sum()) == 8
    bare = int((~batch.labelled).nonzero())
    assert bool((batch.label[bare] == UNLABELLED).all())
    assert batch.scene_known[bare].tolist() == [False] * 3
    assert batch.scene_known[second].all(dim=0).tolist() == [False, True, True]
    assert bool(torch.isfinite(batch.scene).all())
    for shown, there in zip(draw.patterns, batch.available, strict=True):
        assert set(shown) <= set(there)


def outputs_for(batch_size: int, size: tuple[int, int], classes: int, scenes: int) -> Outputs:
    generator = torch.Generator().manual_seed(3)
    cells = sum(-(-size[0] // s) * -(-size[1] // s) for s in (8, 16, 32))
    detections = Detections(
        torch.randn(batch_size, cells, classes - 1, generator=generator).requires_grad_(),
        torch.randn(batch_size, cells, 4, generator=generator).requires_grad_(),
        torch.randn(batch_size, cells, generator=generator).requires_grad_(),
        torch.rand(batch_size, cells, 4, generator=generator).requires_grad_(),
    )
    return Outputs(
        torch.randn(batch_size, classes, *size, generator=generator).requires_grad_(),
        torch.zeros(batch_size, classes, size[0] // 4, size[1] // 4),
        detections,
        torch.randn(batch_size, scenes, generator=generator).requires_grad_(),
    )


def test_a_sample_teaches_only_what_its_folder_knows(mixed: MixedDataset) -> None:
    config = small_data.config(optimiser={"batch": 9})
    ((draw,),) = Loader(mixed, tuple(Modality), config, 1).epoch(0)
    batch, size = draw.batch, config.augmentation.crop
    outputs = outputs_for(9, size, 4, 3)
    found = task_losses(outputs, batch, assign(batch.boxes, batch.class_ids, size), LossConfig())
    torch.stack(list(found.values())).sum().backward()
    assert outputs.scene is not None
    assert outputs.scene.grad is not None
    np.testing.assert_array_equal(outputs.scene.grad != 0, batch.scene_known)
    boxes = outputs.detections.class_logits.grad
    assert boxes is not None
    expected = batch.known_classes[:, 1:] & batch.boxes_known[:, None]
    np.testing.assert_array_equal((boxes != 0).any(dim=1), expected)
    pixels = outputs.segmentation.grad
    assert pixels is not None
    assert not bool(pixels[~batch.labelled].any())
    for i in batch.labelled.nonzero().flatten().tolist():
        unknown = ~batch.known_classes[i]
        on_background = pixels[i][:, batch.label[i] == 0]
        # A descent step raises background or what may hide in it, never one at the other's cost.
        assert bool((on_background[unknown] <= 0).all()), "unknown classes are not pushed away"


def test_background_of_a_folder_that_does_not_label_everything_is_no_label(mixed: MixedDataset) -> None:
    ((draw,),) = Loader(mixed, tuple(Modality), small_data.config(optimiser={"batch": 9}), 1).epoch(0)
    batch = draw.batch
    logits = torch.randn(9, 4, *batch.label.shape[1:], generator=torch.Generator().manual_seed(0))
    everything = regions_of(batch.label, logits, torch.ones_like(batch.known_classes), (4, 8), 256)
    areas = regions_of(batch.label, logits, batch.known_classes, (4, 8), 256)
    background = everything.regions.label == 0
    assert bool(background.any())
    assert bool((areas.regions.label[background] == -1).all())
    assert torch.equal(areas.regions.label[~background], everything.regions.label[~background])
    opinion = areas.regions.probability
    torch.testing.assert_close(opinion.sum(dim=1), torch.ones(len(opinion)))
    excluded = batch.known_classes[areas.sample[background]]
    excluded[:, 0] = False
    assert not bool(opinion[background][excluded].any()), "it is none of what the folder labels"
    assert bool((opinion[background][~excluded] > 0).all())


def test_a_batch_without_any_label_teaches_nothing_and_breaks_nothing(mixed: MixedDataset) -> None:
    config = small_data.config(optimiser={"batch": 9})
    ((draw,),) = Loader(mixed, tuple(Modality), config, 1, frozenset()).epoch(0)
    batch, size = draw.batch, config.augmentation.crop
    outputs = outputs_for(9, size, 4, 3)
    found = task_losses(outputs, batch, assign(batch.boxes, batch.class_ids, size), LossConfig())
    assert {name: value.item() for name, value in found.items()} == dict.fromkeys(found, 0.0)
    torch.stack(list(found.values())).sum().backward()
    assert outputs.segmentation.grad is not None
    assert not bool(outputs.segmentation.grad.any())
    assert bool(torch.isfinite(outputs.segmentation.grad).all())


def test_normalisation_looks_at_frames_that_have_the_sensor(
    mixed: MixedDataset, roots: tuple[Path, Path]
) -> None:
    assert measure(mixed, DEPTH) == measure(FolderDataset(roots[1], "train"), DEPTH)
    assert measure(mixed, THERMAL) == measure(FolderDataset(roots[0], "train"), THERMAL)


def test_a_validation_looks_at_frames_with_labels(mixed: MixedDataset) -> None:
    assert measured_frames(mixed) == [0, 2, 3, 4, 5, 6, 7, 8]
    assert measured_frames(mixed, 3) == [0, 3, 6]


def test_a_validation_that_could_measure_nothing_is_refused(roots: tuple[Path, Path], tmp_path: Path) -> None:
    config = small_data.config(validation={"patterns": "full"})
    words = r"validation\.patterns full: expected a frame with all .*rgb\+depth\+thermal\+audio .*, got none"
    with pytest.raises(ConfigError, match=words):
        loop.train(loop.Run(config, roots, tmp_path / "run"), stream=io.StringIO())
    assert not (tmp_path / "run").exists()


def test_classes_that_a_folder_does_not_label_are_background_there(
    roots: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that says "warm" everywhere: wrong in the folder that labels warm, silent in the other."""
    val = MixedDataset.open(roots, "val")
    network = loop.build_network(small_data.config(), val).eval()
    with torch.no_grad():
        network.fusion.segmentation.classify.weight.zero_()
        network.fusion.segmentation.classify.bias.copy_(torch.tensor([0.0, 9.0, 0.0, 0.0]))
    seen: list[ConfusionMatrix] = []
    monkeypatch.setattr(ConfusionMatrix, "foreground_miou", lambda matrix: seen.append(matrix) or 0.0)
    validate(network, val, [Pattern.parse("rgb")], small_data.SIZE)
    first, second = FolderDataset(roots[0], "val"), FolderDataset(roots[1], "val")
    warm = sum(int((sample.label != UNLABELLED).sum()) for sample in first)
    (matrix,) = seen
    assert int(matrix.counts[:, WARM].sum()) == warm
    assert int(matrix.counts[:, 0].sum()) == sum(sample.label.size for sample in second)


@pytest.fixture(scope="module")
def run(roots: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both folders with half of the labels, trained by the command."""
    folder = tmp_path_factory.mktemp("run")
    config = small_data.config(data={"labelled": 0.5}, optimiser={"epochs": 1})
    (folder / "mixed.yaml").write_text(config.to_text())
    words = ["--config", str(folder / "mixed.yaml"), "--out", str(folder / "out"), "--no-export"]
    assert command.main([*words, "--data", str(roots[0]), "--data", str(roots[1])]) == 0
    return folder / "out"


def test_two_folders_train_one_network(run: Path) -> None:
    network, training = load_weights(run / loop.BEST)
    assert isinstance(network, Network)
    assert network.config.class_names == ("background", "warm", "cold", "tall")
    assert network.config.scene_names == ("tone", "noise", "silence")
    assert network.config.modalities == tuple(Modality)
    assert training["data"] == "first + second"
    shown = set(training["validation"])
    assert {"val/rgb", "val/depth", "val/rgb+depth", "val/rgb+thermal+audio"} <= shown
    assert not {"val/depth+thermal", "val/rgb+depth+thermal+audio"} & shown, "no frame has both"
    assert all(bool(torch.isfinite(value).all()) for value in network.state_dict().values())


def test_everything_trains_on_two_folders_and_pairs_never_seen_together_are_remembered(
    roots: tuple[Path, Path], tmp_path: Path
) -> None:
    network = {
        "bottleneck": 16,
        "translation": "mean",
        "shared": True,
        "probabilistic": True,
        "auxiliary": True,
    }
    methods = {"unimodal": 1.0, "gamma": 1.0, "swap": 0.5, "contrast": 0.1, "reconstruction": 1.0}
    config = small_data.config(
        data={"labelled": 0.5},
        network=network,
        methods={**methods, "alpha": 1e-3, "hard": 0.5, "window": 1},
        optimiser={"batch": 4},
        patterns={"distillation": 0.5},
    )
    stream = io.StringIO()
    both = loop.Run(config, roots, tmp_path / "run", seed=1)
    learnt, _ = load_weights(loop.train(both, stream=stream))
    assert learnt.config.seen == ("rgb-depth", "rgb-thermal", "rgb-audio", "thermal-audio")
    with (both.out / log.LOG).open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        for name in ("unimodal", "translation", "reconstruction", "contrast", "full/cross_entropy"):
            assert math.isfinite(float(row[name])), name
            assert float(row[name]) > 0.0, name
    alone = loop.build_network(config, MixedDataset.open(roots[1:], "train"))
    assert alone.config.seen is None, "one folder whose sensors were all seen together needs no list"


@pytest.mark.slow
def test_it_is_exported_with_every_class_and_sensor(run: Path, roots: tuple[Path, Path]) -> None:
    words = ["--weights", str(run / loop.BEST), "--out", str(run / "model")]
    assert export.main([*words, "--data", str(roots[0]), "--data", str(roots[1])]) == 0
    manifest = Manifest.load(run / "model")
    assert manifest.class_names == ("background", "warm", "cold", "tall")
    assert manifest.modalities == tuple(Modality)
    assert len(manifest.score_threshold) == 15


def test_a_reference_is_put_together_where_no_frame_has_every_sensor(roots: tuple[Path, Path]) -> None:
    def manifest(*modalities: Modality) -> SimpleNamespace:
        return SimpleNamespace(modalities=modalities, size=small_data.SIZE)

    val = MixedDataset.open(roots, "val")
    inputs = reference_inputs(val, manifest(*Modality))
    assert tuple(inputs) == tuple(Modality)
    together = reference_inputs(val, manifest(RGB, DEPTH))
    middle = prepare(FolderDataset(roots[1], "val")[0].frames[RGB], small_data.SIZE)
    np.testing.assert_array_equal(together[RGB], middle)
    with pytest.raises(ExportError, match=r"second/val: expected a frame with all of \['rgb', 'audio'\]"):
        reference_inputs(MixedDataset.open(roots[1:], "val"), manifest(RGB, AUDIO))


def test_a_sensor_without_a_validation_frame_is_named(roots: tuple[Path, Path], tmp_path: Path) -> None:
    second = small_data.write_other(tmp_path / "second")
    for path in (second / "val" / "depth").iterdir():
        path.unlink()
    with pytest.raises(DatasetError, match=r"first/val and .*second/val: .*got none of \['depth'\]"):
        loop.train(loop.Run(small_data.config(), (roots[0], second), tmp_path / "run"))
    assert not (tmp_path / "run").exists()
