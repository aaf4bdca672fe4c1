"""Batches depend on (seed, epoch, sample) and on nothing else."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import pytest
import small_data
import torch

from robust_perception.datasets import FolderDataset
from robust_perception.training.config import TrainingConfig
from robust_perception.training.loader import Loader
from robust_perception.training.objective import targets_of
from robust_perception.vocabulary import UNLABELLED, Modality, Pattern


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> FolderDataset:
    return FolderDataset(small_data.write(tmp_path_factory.mktemp("data"), train=5), "train")


def loader(dataset: FolderDataset, seed: int = 1) -> Loader:
    return Loader(dataset, tuple(Modality), small_data.config(), seed)


def test_an_epoch_is_the_same_whenever_it_is_drawn(dataset: FolderDataset) -> None:
    first = loader(dataset)
    list(first.epoch(0))
    again = loader(dataset)
    for (one,), (two,) in zip(first.epoch(1), again.epoch(1), strict=True):
        assert one.patterns == two.patterns
        for modality, values in one.batch.inputs.items():
            assert torch.equal(values.nan_to_num(-1), two.batch.inputs[modality].nan_to_num(-1))


def test_epochs_and_seeds_differ(dataset: FolderDataset) -> None:
    def labels(seed: int, epoch: int) -> torch.Tensor:
        return torch.cat([draw.batch.label for (draw,) in loader(dataset, seed).epoch(epoch)])

    assert not torch.equal(labels(1, 0), labels(1, 1))
    assert not torch.equal(labels(1, 0), labels(2, 0))


def test_shapes_and_kinds(dataset: FolderDataset) -> None:
    draws = [draw for (draw,) in loader(dataset).epoch(0)]
    assert len(draws) == 2, "five samples give two whole batches of two"
    batch = draws[0].batch
    assert batch.inputs[Modality.RGB].shape == (2, 32, 64, 3)
    assert batch.inputs[Modality.RGB].dtype == torch.uint8
    assert batch.inputs[Modality.DEPTH].shape == (2, 32, 64)
    assert batch.inputs[Modality.AUDIO].shape == (2, 16000)
    assert batch.label.shape == (2, 32, 64)
    assert batch.label.dtype == torch.int64
    assert batch.scene.shape == (2, 2)
    assert bool(batch.boxes_known.all())


def test_what_has_no_label_has_no_boxes_unless_those_are_listed(tmp_path: Path) -> None:
    data = small_data.write(tmp_path, train=2)
    for name in ("000", "001"):
        path = data / "train" / "label" / f"{name}.png"
        label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        label[:, 48:] = UNLABELLED
        cv2.imwrite(str(path), label)
    listed: dict[str, list[dict[str, object]]]
    listed = {"images": [{"id": 1, "file_name": "001.png"}], "annotations": []}
    (data / "train" / "boxes_coco.json").write_text(json.dumps(listed))
    batch = loader(FolderDataset(data, "train")).draw(0, [0, 1, 0, 1]).batch
    assert batch.boxes_from_label.tolist() == [True, False, True, False]
    assert torch.equal(batch.unsearched[::2], batch.label[::2] == UNLABELLED)
    assert bool(batch.unsearched[::2].any())
    assert not bool(batch.unsearched[1::2].any())
    crowd = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 1000, 1000], "iscrowd": 1}
    (data / "train" / "boxes_coco.json").write_text(json.dumps({**listed, "annotations": [crowd]}))
    batch = loader(FolderDataset(data, "train")).draw(0, [0, 1, 0, 1]).batch
    assert bool(batch.unsearched[1::2].all()), "a crowd is everywhere"
    assert not bool(targets_of(batch).classes[1::2].ge(0).any())
    assert not any(len(boxes) for boxes in batch.boxes[1::2])


def test_fewer_samples_than_a_batch_make_one(dataset: FolderDataset) -> None:
    config = small_data.config(optimiser={"batch": 64})
    draws = [draw for (draw,) in Loader(dataset, tuple(Modality), config, 1).epoch(0)]
    assert [len(draw.patterns) for draw in draws] == [5]


def test_a_sensor_that_a_whole_batch_lacks_is_zeros_and_in_no_pattern(tmp_path: Path) -> None:
    data = small_data.write(tmp_path, train=4)
    for name in ("000", "001", "002"):
        (data / "train" / "audio" / f"{name}.wav").unlink()
    draws = [draw for (draw,) in loader(FolderDataset(data, "train")).epoch(0)]
    silent = [d for d in draws if not any(Modality.AUDIO in a for a in d.batch.available)]
    assert len(silent) == 1
    assert silent[0].batch.inputs[Modality.AUDIO].shape == (2, 16000)
    assert not silent[0].batch.inputs[Modality.AUDIO].any()
    assert not any(Modality.AUDIO in pattern for pattern in silent[0].patterns)


def test_frames_without_any_sensor_of_the_network_are_left_out(tmp_path: Path) -> None:
    data = small_data.write(tmp_path, train=5)
    for name in ("001", "003"):
        (data / "train" / "rgb" / f"{name}.png").unlink()
    config = small_data.config(optimiser={"batch": 3})
    only = Loader(FolderDataset(data, "train"), (Modality.RGB,), config, 1)
    assert only.steps == 1
    for epoch in range(3):
        ((draw,),) = only.epoch(epoch)
        assert draw.batch.available == (Pattern.parse("rgb"),) * 3


def test_rare_classes_come_oftener_where_that_is_asked_for(tmp_path: Path) -> None:
    data = small_data.write(tmp_path, train=8)
    labels = sorted((data / "train" / "label").iterdir())
    for number, path in enumerate(labels):
        picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        picture[:] = 0
        picture[8:24, 8:24] = 1 if number else 2
        cv2.imwrite(str(path), picture)
    plain = small_data.config()
    even = dataclasses.replace(plain, data=dataclasses.replace(plain.data, class_balance=1.0))
    dataset = FolderDataset(data, "train")

    def showing(config: TrainingConfig, wanted: int) -> int:
        draws = [
            draw for epoch in range(4) for (draw,) in Loader(dataset, tuple(Modality), config, 1).epoch(epoch)
        ]
        return sum(wanted in ids.tolist() for draw in draws for ids in draw.batch.class_ids)

    rare, common = showing(even, 2), showing(even, 1)
    assert showing(plain, 2) < rare
    assert common / 2 < rare < common * 2
