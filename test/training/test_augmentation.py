"""A crop shows one place in every sensor: boxes, label and measurements stay together."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robust_perception.coco_boxes import Boxes
from robust_perception.datasets import Sample
from robust_perception.training.augmentation import LEAST_SIDE, Crop, make_crop, whole_frame
from robust_perception.training.config import AugmentationConfig
from robust_perception.vocabulary import MODALITIES, UNLABELLED, Modality, SensorFrame

SIZE = (96, 128)
PLAIN = AugmentationConfig(
    crop=SIZE, scale=(1.0, 1.0), flip=0.0, around_object=0.0, brightness=0.0, contrast=0.0, saturation=0.0,
    darkness=0.0, blank=0.0, thermal_offset=0.0, thermal_noise=0.0, depth_scale=0.0, depth_holes=0,
    audio_gain=0.0, audio_shift=False,
)  # fmt: skip
"""Changes nothing."""

Box = tuple[int, int, int, int]


def make_sample(boxes: Sequence[Box], size: tuple[int, int] = SIZE) -> Sample:
    """A picture of rectangles in which every sensor measures the class; later classes cover earlier ones."""
    label = np.zeros(size, np.uint8)
    for class_id, (x1, y1, x2, y2) in enumerate(boxes, start=1):
        label[y1:y2, x1:x2] = class_id
    data: dict[Modality, npt.NDArray[np.generic]] = {
        Modality.RGB: np.repeat((label * 20)[..., None], 3, axis=2),
        Modality.DEPTH: label.astype(np.float32) + np.float32(1.0),
        Modality.THERMAL: label.astype(np.float32) * np.float32(4.0) + np.float32(280.0),
        Modality.AUDIO: np.linspace(-0.5, 0.5, 16000, dtype=np.float32),
    }
    return Sample(
        "frame",
        {m: SensorFrame(m, values, 1) for m, values in data.items()},
        label,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.arange(1, len(boxes) + 1, dtype=np.int64),
        np.array([1.0, 0.0], np.float32),
    )


def crop_of(sample: Sample, config: AugmentationConfig, seed: int = 0) -> Crop:
    return make_crop(sample, MODALITIES, SIZE, config, np.random.default_rng(seed))


@st.composite
def rectangles(draw: st.DrawFn) -> list[Box]:
    """Up to three rectangles that do not touch, one in each third of the picture."""
    boxes = []
    third = SIZE[1] // 3
    for index in range(draw(st.integers(1, 3))):
        x1 = index * third + draw(st.integers(0, third // 2))
        x2 = draw(st.integers(x1 + 5, (index + 1) * third - 2))
        y1 = draw(st.integers(0, SIZE[0] - 10))
        boxes.append((x1, y1, x2, draw(st.integers(y1 + 5, SIZE[0]))))
    return boxes


GEOMETRY = st.builds(
    lambda low, high, flip, around, height, width: dataclasses.replace(
        PLAIN, scale=(low, low * high), flip=flip, around_object=around, crop=(32 * height, 32 * width)
    ),
    st.floats(0.4, 2.0),
    st.floats(1.0, 2.0),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(1, 4),
    st.integers(1, 4),
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(boxes=rectangles(), config=GEOMETRY, seed=st.integers(0, 2**31))
def test_every_sensor_the_label_and_the_boxes_show_the_same_place(
    boxes: list[Box], config: AugmentationConfig, seed: int
) -> None:
    crop = crop_of(make_sample(boxes), config, seed)
    label, height, width = crop.label, *config.crop
    assert label.shape == config.crop
    outside = label == UNLABELLED

    depth = crop.inputs[Modality.DEPTH]
    assert np.array_equal(np.isnan(depth), outside), (
        "both sample the nearest pixel, so they agree in every pixel"
    )
    assert np.array_equal(depth[~outside], label[~outside] + np.float32(1.0))

    heat = (crop.inputs[Modality.THERMAL] - 280.0) / 4.0
    colour = crop.inputs[Modality.RGB]
    inner = uniform(label)
    assert np.allclose(heat[inner], label[inner], atol=1e-3)
    assert np.array_equal(colour[inner], np.repeat((label * 20)[..., None], 3, axis=2)[inner])
    assert np.array_equal(crop.inputs[Modality.AUDIO], make_sample(boxes).frames[Modality.AUDIO].data)

    assert np.isin(crop.class_ids, np.arange(1, len(boxes) + 1)).all()
    assert len(np.unique(crop.class_ids)) == len(crop.class_ids) == len(crop.boxes)
    zoom = config.scale
    for class_id, (x1, y1, x2, y2) in zip(crop.class_ids, crop.boxes, strict=True):
        assert 0 <= x1 < x2 <= width
        assert 0 <= y1 < y2 <= height
        assert min(x2 - x1, y2 - y1) >= LEAST_SIDE - 1e-4
        rows, columns = np.nonzero(label == class_id)
        seen = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        # A pixel is of the box whose inside holds its centre: edges differ by less than a pixel of the frame.
        np.testing.assert_allclose((x1, y1, x2, y2), seen, atol=0.51 + 0.51 * max(1.0, zoom[1]))
    for class_id in set(range(1, len(boxes) + 1)) - set(crop.class_ids.tolist()):
        x1, y1, x2, y2 = boxes[class_id - 1]
        whole = (x2 - x1) * (y2 - y1) * zoom[1] ** 2
        rows, columns = np.nonzero(label == class_id)
        small = len(rows) == 0 or min(np.ptp(rows), np.ptp(columns)) + 1 <= LEAST_SIDE + 1 + zoom[1]
        assert small or len(rows) < 0.5 * whole, "a box that can be seen well was dropped"


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(boxes=rectangles(), config=GEOMETRY, seed=st.integers(0, 2**31))
def test_a_crowd_covers_the_pixels_that_it_covered(
    boxes: list[Box], config: AugmentationConfig, seed: int
) -> None:
    sample = make_sample(boxes)
    crowds = Boxes(np.array(boxes, np.float32), np.arange(1, len(boxes) + 1))
    none = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    crop = crop_of(dataclasses.replace(sample, boxes=none[0], class_ids=none[1], crowds=crowds), config, seed)
    assert len(crop.boxes) == 0
    inside = (crop.label != 0) & (crop.label != UNLABELLED)
    sure = uniform(crop.label)
    assert np.array_equal(crop.crowded[sure], inside[sure])


def uniform(label: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Pixels whose neighbours, two pixels far, are all of their class: interpolation leaves them."""
    same = label != UNLABELLED
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            same &= np.roll(label, (dy, dx), axis=(0, 1)) == label
    same[:2], same[-2:], same[:, :2], same[:, -2:] = False, False, False, False
    return same


def test_changing_nothing_changes_nothing() -> None:
    sample = make_sample([(5, 7, 30, 40), (60, 20, 90, 80)])
    crop = crop_of(sample, PLAIN)
    assert sample.label is not None
    assert np.array_equal(crop.label, sample.label)
    for modality, data in crop.inputs.items():
        assert np.array_equal(data, sample.frames[modality].data), modality
    assert np.array_equal(crop.boxes, sample.boxes)
    assert np.array_equal(crop.class_ids, sample.class_ids)
    assert crop.scene is sample.scene
    assert crop.boxes_known


def test_a_mirrored_frame_is_exactly_mirrored() -> None:
    sample = make_sample([(5, 7, 30, 40), (60, 20, 90, 80)])
    crop = crop_of(sample, dataclasses.replace(PLAIN, flip=1.0))
    assert sample.label is not None
    assert np.array_equal(crop.label, sample.label[:, ::-1])
    for modality in MODALITIES[:3]:
        assert np.array_equal(crop.inputs[modality], sample.frames[modality].data[:, ::-1]), modality
    assert crop.boxes.tolist() == [[98.0, 7.0, 123.0, 40.0], [38.0, 20.0, 68.0, 80.0]]


def test_a_crop_around_an_object_holds_the_centre_of_one() -> None:
    sample = make_sample([(5, 7, 15, 17), (100, 60, 116, 76)])
    config = dataclasses.replace(PLAIN, crop=(32, 32), around_object=1.0, flip=0.5)
    for seed in range(60):
        assert len(crop_of(sample, config, seed).boxes) >= 1 or (
            np.isin(crop_of(sample, config, seed).label, (1, 2)).any()
        )


def test_frames_of_another_size_take_boxes_and_label_along() -> None:
    half = make_sample([(5, 7, 30, 40)], (48, 64))
    crop = crop_of(half, PLAIN)
    assert crop.boxes.tolist() == [[10.0, 14.0, 60.0, 80.0]]
    rows, columns = np.nonzero(crop.label == 1)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (10, 14, 60, 80)
    assert whole_frame(half, MODALITIES, SIZE)[Modality.RGB].shape == (*SIZE, 3)


def test_crowds_of_frames_of_another_size_go_along() -> None:
    half = make_sample([], (48, 64))
    crowds = Boxes(np.array([[5, 7, 30, 40]], np.float32), np.array([1]))
    rows, columns = np.nonzero(crop_of(dataclasses.replace(half, crowds=crowds), PLAIN).crowded)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (10, 14, 60, 80)


def test_a_crowd_holds_the_pixels_whose_centres_are_in_it() -> None:
    crowds = Boxes(np.array([[5.6, 7.4, 30.2, 40.7]], np.float32), np.array([1]))
    rows, columns = np.nonzero(crop_of(dataclasses.replace(make_sample([]), crowds=crowds), PLAIN).crowded)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (6, 7, 30, 41)


def test_what_is_hardly_to_be_seen_is_no_object() -> None:
    sample, config = make_sample([(20, 30, 60, 70)]), dataclasses.replace(PLAIN, crop=(96, 64))
    kept: set[bool] = set()
    for seed in range(40):
        crop = crop_of(sample, config, seed)
        share = (crop.label == 1).any(axis=0).sum() / 40  # to a pixel of 40
        kept.add(len(crop.boxes) == 1)
        assert share > 0.32 if len(crop.boxes) else share < 0.38
    assert kept == {False, True}
    thin = crop_of(make_sample([(5, 7, 8, 40), (60, 20, 64, 80), (100, 50, 120, 53)]), PLAIN)
    assert thin.class_ids.tolist() == [2], "four pixels are enough, three are not"


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_a_crop_of_all_of_a_magnified_frame_is_that_frame(flip: float) -> None:
    sample = make_sample([(5, 7, 30, 40)])
    double = dataclasses.replace(PLAIN, crop=(2 * SIZE[0], 2 * SIZE[1]), scale=(2.0, 2.0), flip=flip)
    crop = crop_of(sample, double)
    assert sample.label is not None
    expected = sample.label.repeat(2, axis=0).repeat(2, axis=1)
    assert np.array_equal(crop.label, expected[:, ::-1] if flip else expected)
    assert crop.boxes.tolist() == [[196.0, 14.0, 246.0, 80.0] if flip else [10.0, 14.0, 60.0, 80.0]]


def test_sensors_and_truths_that_are_not_there_stay_away() -> None:
    full = make_sample([(5, 7, 30, 40)])
    bare = Sample("bare", {Modality.DEPTH: full.frames[Modality.DEPTH]}, None, None, None, None)
    crop = crop_of(bare, dataclasses.replace(PLAIN, around_object=1.0))
    assert set(crop.inputs) == {Modality.DEPTH}
    assert (crop.label == UNLABELLED).all()
    assert not crop.boxes_known
    assert len(crop.boxes) == 0
    assert crop.scene is None


@settings(max_examples=40)
@given(seed=st.integers(0, 2**31))
def test_changes_keep_types_ranges_and_truth(seed: int) -> None:
    sample = make_sample([(5, 7, 30, 40)])
    strong = dataclasses.replace(
        PLAIN, brightness=0.9, contrast=0.9, saturation=0.9, darkness=0.4, blank=0.3, thermal_offset=3.0,
        thermal_noise=0.5, depth_scale=0.5, depth_holes=4, audio_gain=20.0, audio_shift=True,
    )  # fmt: skip
    before = {m: f.data.copy() for m, f in sample.frames.items()}
    crop = crop_of(sample, strong, seed)
    again = crop_of(sample, strong, seed)
    for modality, data in crop.inputs.items():
        assert data.dtype == before[modality].dtype
        assert data.shape == before[modality].shape
        assert np.array_equal(data, again.inputs[modality], equal_nan=True), (
            "the generator is the only chance"
        )
        assert np.array_equal(sample.frames[modality].data, before[modality]), (
            "the sample itself is not changed"
        )
    depth, heat, sound = (crop.inputs[m] for m in (Modality.DEPTH, Modality.THERMAL, Modality.AUDIO))
    there = ~np.isnan(depth)
    ratio = depth[there] / before[Modality.DEPTH][there]
    assert np.allclose(ratio, ratio[0], rtol=1e-5)
    assert 0.5 <= ratio[0] <= 1.5
    assert there.mean() > 0.5
    assert np.abs(heat - before[Modality.THERMAL]).max() < 3.0 + 0.5 * 8
    assert np.abs(sound).max() <= 1.0
    assert sample.label is not None
    assert np.array_equal(crop.label, sample.label)
    assert np.array_equal(crop.boxes, sample.boxes)


def changes(kind: Modality, **settings: object) -> list[npt.NDArray[np.generic]]:
    """What becomes of one sensor's frame with a single kind of change, thirty times."""
    sample, config = make_sample([(5, 7, 30, 40)]), dataclasses.replace(PLAIN, **settings)  # type: ignore[arg-type]
    return [crop_of(sample, config, seed).inputs[kind] for seed in range(30)]


def test_each_change_is_made_and_as_large_as_it_may_be() -> None:
    sample = make_sample([(5, 7, 30, 40)])
    heat, sound, depth = (sample.frames[m].data for m in (Modality.THERMAL, Modality.AUDIO, Modality.DEPTH))
    offsets = np.array([(x - heat).mean() for x in changes(Modality.THERMAL, thermal_offset=3.0)])
    assert 2.0 < np.abs(offsets).max() <= 3.0 and offsets.min() < 0.0 < offsets.max()
    noises = np.array([(x - heat).std() for x in changes(Modality.THERMAL, thermal_noise=0.5)])
    assert 0.3 < noises.max() <= 0.52
    scales = np.array([(x / depth).mean() for x in changes(Modality.DEPTH, depth_scale=0.5)])
    assert 0.5 <= scales.min() < 0.7 and 1.3 < scales.max() <= 1.5
    holes = [np.isnan(x).mean() for x in changes(Modality.DEPTH, depth_holes=4)]
    assert min(holes) == 0.0 < max(holes)
    gains = [20 * np.log10(np.abs(x).max() / 0.5) for x in changes(Modality.AUDIO, audio_gain=6.0)]
    assert -6.0 <= min(gains) < -4.0 and 4.0 < max(gains) <= 6.0 + 1e-3
    shifted = changes(Modality.AUDIO, audio_shift=True)
    assert all(np.array_equal(np.sort(x), np.sort(sound)) for x in shifted)
    assert len({float(x[0]) for x in shifted}) > 20
    assert max(np.abs(x).max() for x in changes(Modality.AUDIO, audio_gain=40.0)) == 1.0


def test_each_change_of_colour_is_what_it_is_called() -> None:
    colour = np.zeros((*SIZE, 3), np.uint8)
    colour[:, :64], colour[:, 64:] = (100, 80, 60), (60, 80, 100)
    colour[:48] += 40
    frame = {Modality.RGB: SensorFrame(Modality.RGB, colour, 1)}
    sample = Sample("colour", frame, None, None, None, None)

    def pictures(**settings: float) -> list[npt.NDArray[np.float64]]:
        config = dataclasses.replace(PLAIN, **settings)  # type: ignore[arg-type]
        return [crop_of(sample, config, seed).inputs[Modality.RGB].astype(float) for seed in range(20)]

    def spread(picture: npt.NDArray[np.float64]) -> float:
        return float(picture.mean(axis=2).std())

    def colourful(picture: npt.NDArray[np.float64]) -> float:
        return float(np.abs(picture - picture.mean(axis=2, keepdims=True)).mean())

    was = colour.astype(float)
    for changed, same, name in (
        (lambda p: p.mean(), spread, "brightness"),
        (spread, lambda p: p.mean(), "contrast"),
        (colourful, lambda p: p.mean(axis=2), "saturation"),
    ):
        found = pictures(**{name: 0.5})
        ratios = [changed(picture) / changed(was) for picture in found]
        assert 0.48 <= min(ratios) < 0.75 and 1.25 < max(ratios) <= 1.52, name
        assert all(np.allclose(same(picture), same(was), atol=1.0) for picture in found), name


def test_darkness_and_blank_are_dark() -> None:
    sample = make_sample([(0, 0, 128, 96)])
    bright = dataclasses.replace(sample, frames=dict(sample.frames))
    white = np.full((*SIZE, 3), 200, np.uint8)
    bright.frames[Modality.RGB] = SensorFrame(Modality.RGB, white, 1)  # type: ignore[index]
    for seed in range(20):
        blank = crop_of(bright, dataclasses.replace(PLAIN, blank=1.0), seed).inputs[Modality.RGB]
        dark = crop_of(bright, dataclasses.replace(PLAIN, darkness=1.0), seed).inputs[Modality.RGB]
        assert blank.mean() < 0.1 * 200
        assert 0.06 * 200 < dark.mean() < 0.55 * 200
        either = crop_of(bright, dataclasses.replace(PLAIN, blank=0.5, darkness=0.5), seed)
        assert either.inputs[Modality.RGB].mean() < 0.55 * 200


@pytest.mark.parametrize("crop", [(160, 192), (128, 160)])
def test_a_crop_larger_than_the_frame_says_what_is_outside(crop: tuple[int, int]) -> None:
    found = crop_of(make_sample([(5, 7, 30, 40)]), dataclasses.replace(PLAIN, crop=crop), 3)
    outside = found.label == UNLABELLED
    assert int((~outside).sum()) == SIZE[0] * SIZE[1]
    assert np.isnan(found.inputs[Modality.DEPTH][outside]).all()
    assert (found.inputs[Modality.THERMAL][outside] == 280.0).all(), "the border goes on"
    assert (found.inputs[Modality.RGB][outside] == 0).all()
