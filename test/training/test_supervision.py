"""A part of the labels: always the same, one inside the other, every class in it, and nothing leaks."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import small_data
from hypothesis import given
from hypothesis import strategies as st

from robust_perception.datasets import DatasetError, FolderDataset
from robust_perception.training.errors import ConfigError
from robust_perception.training.loader import Loader
from robust_perception.training.mixture import MixedDataset
from robust_perception.training.supervision import labelled_names, labelled_subset
from robust_perception.vocabulary import UNLABELLED, Modality

SHARES = (0.01, 0.05, 0.1, 0.5, 1.0)
PRESENT = st.dictionaries(st.text("abcdef", min_size=1), st.frozensets(st.integers(1, 5)), min_size=1)


@given(present=PRESENT, seed=st.integers(0, 2**31))
def test_subsets_are_nested_and_the_same_whenever_asked(
    present: dict[str, frozenset[int]], seed: int
) -> None:
    chosen = [labelled_subset(present, share, seed) for share in SHARES]
    backwards = dict(reversed(present.items()))
    assert chosen == [labelled_subset(backwards, share, seed) for share in SHARES]
    for share, smaller, larger in zip(SHARES, chosen, chosen[1:], strict=False):
        assert smaller <= larger
        assert len(smaller) == max(1, round(share * len(present)))
    assert chosen[-1] == set(present)


@given(present=PRESENT, seed=st.integers(0, 100), share=st.floats(0.01, 1.0))
def test_every_class_has_a_sample_once_there_are_as_many_as_classes(
    present: dict[str, frozenset[int]], seed: int, share: float
) -> None:
    classes = frozenset().union(*present.values())
    chosen = labelled_subset(present, share, seed)
    if len(chosen) >= len(classes):
        assert frozenset().union(*(present[name] for name in chosen)) == classes


def test_a_rare_class_is_not_left_to_chance() -> None:
    present = {f"{i:04}": frozenset({1}) for i in range(1000)} | {"rare": frozenset({1, 2})}
    assert all("rare" in labelled_subset(present, 0.001, seed) for seed in range(20))
    seeds = {labelled_subset(present, 0.05, seed) for seed in range(5)}
    assert len(seeds) == 5


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match=r"expected a value in \(0, 1\]"):
        labelled_subset({"a": {1}}, share, 0)


def test_only_samples_with_labels_and_a_sensor_of_the_network_are_chosen_from(tmp_path: Path) -> None:
    data = small_data.write(tmp_path, train=6)
    (data / "train" / "label" / "000.png").unlink()
    (data / "train" / "scene.json").unlink()
    blank = np.full(small_data.SIZE, UNLABELLED, np.uint8)
    cv2.imwrite(str(data / "train" / "label" / "001.png"), blank)
    (data / "train" / "rgb" / "002.png").unlink()
    dataset = MixedDataset.open((data,), "train")
    assert dataset.ground_truth("000") is None
    assert dataset.ground_truth("001") is None
    assert dataset.ground_truth("003") == {1, 2}
    assert labelled_names(dataset, (Modality.RGB,), 0.999, 0) == {"003", "004", "005"}
    assert labelled_names(dataset, (Modality.RGB,), 1.0, 0) is None


def test_a_label_map_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    data = small_data.write(tmp_path)
    cv2.imwrite(str(data / "train" / "label" / "001.png"), np.full(small_data.SIZE, 7, np.uint8))
    with pytest.raises(DatasetError, match=r"train/label/001\.png: expected label values .*, got \[7\]"):
        labelled_names(MixedDataset.open((data,), "train"), tuple(Modality), 0.5, 0)


def test_a_sample_whose_labels_do_not_count_is_one_that_never_had_any(tmp_path: Path) -> None:
    """Same pictures, same crops, same patterns: not even the place of a crop tells where objects are."""
    data = small_data.write(tmp_path / "with", train=4)
    bare = small_data.write(tmp_path / "without", train=4)
    for name in ("001", "002", "003"):
        (bare / "train" / "label" / f"{name}.png").unlink()
    scene = bare / "train" / "scene.json"
    scene.write_text('{"000": ["tone"]}')
    config = small_data.config(augmentation={"around_object": 1.0})
    hidden = Loader(FolderDataset(data, "train"), tuple(Modality), config, 1, {"000"})
    absent = Loader(FolderDataset(bare, "train"), tuple(Modality), config, 1)
    labelled = 0
    for epoch in range(2):
        for (one,), (two,) in zip(hidden.epoch(epoch), absent.epoch(epoch), strict=True):
            assert one.patterns == two.patterns
            for modality, values in one.batch.inputs.items():
                assert values.numpy().tobytes() == two.batch.inputs[modality].numpy().tobytes()
            for name in ("label", "boxes_known", "scene", "scene_known", "known_classes", "labelled"):
                assert getattr(one.batch, name).equal(getattr(two.batch, name)), name
            unlabelled = ~one.batch.labelled
            assert bool((one.batch.label[unlabelled] == UNLABELLED).all())
            assert not bool(one.batch.boxes_known[unlabelled].any())
            assert not bool(one.batch.scene_known[unlabelled].any())
            assert all(len(one.batch.boxes[i]) == 0 for i in unlabelled.nonzero().flatten().tolist())
            labelled += int(one.batch.labelled.sum())
    assert labelled == 4, "sample 000 in every batch of two"


def test_a_sample_that_comes_again_in_an_epoch_is_another_crop(tmp_path: Path) -> None:
    dataset = FolderDataset(small_data.write(tmp_path, train=8), "train")
    loader = Loader(dataset, tuple(Modality), small_data.config(), 1, {"000"})
    crops = []
    for (draw,) in loader.epoch(0):
        (known,) = draw.batch.labelled.nonzero().flatten().tolist()
        crops.append(draw.batch.inputs[Modality.RGB][known].numpy().tobytes())
    assert len(crops) == len(set(crops)) == 4


def test_samples_come_once_where_no_share_of_a_batch_is_asked_for(tmp_path: Path) -> None:
    dataset = FolderDataset(small_data.write(tmp_path), "train")
    config = small_data.config(data={"labelled_in_batch": 0.0})
    loader = Loader(dataset, tuple(Modality), config, 1, {"000"})
    assert sum(int(draw.batch.labelled.sum()) for (draw,) in loader.epoch(0)) == 1


def test_all_labels_give_the_batches_of_no_choice(tmp_path: Path) -> None:
    dataset = FolderDataset(small_data.write(tmp_path), "train")
    config = small_data.config()
    first = Loader(dataset, tuple(Modality), config, 1)
    second = Loader(dataset, tuple(Modality), config, 1, set(dataset.names))
    for (one,), (two,) in zip(first.epoch(0), second.epoch(0), strict=True):
        assert one.patterns == two.patterns
        assert one.batch.label.equal(two.batch.label)
        assert bool(two.batch.labelled.all())
