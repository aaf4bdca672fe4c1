"""The rig in one process; skips where the machine cannot draw off-screen."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from robust_perception.simulation import things
from robust_perception.simulation.capture import MINIMUM_VISIBLE_PIXELS, Capture, boxes_of_items
from robust_perception.simulation.classes import CLASS_NAMES, SCENE_NAMES, class_id
from robust_perception.simulation.compose import compose
from robust_perception.simulation.errors import GraphicsError, SceneError
from robust_perception.simulation.scene import (
    CameraView,
    Emitter,
    Exposure,
    Item,
    Lamp,
    Motion,
    Part,
    Scene,
    Shape,
)
from robust_perception.vocabulary import AUDIO_RATE, Modality

FindSeed = Callable[[Callable[[Scene], bool]], int]


def stage(*items: Item, emitters: tuple[Emitter, ...] = (), present: frozenset[str] = frozenset()) -> Scene:
    """A bare, well lit scene: a wall 4 m away, and `items`."""
    wall = Part(Shape.BOX, (6, 0.05, 6), (0, 4.05, 0), (0.7, 0.7, 0.7, 1), 293.0)
    return Scene(
        items=(Item(0, (wall,), (0.0, 0.0, 0.0)), *items),
        camera=CameraView((0.0, 0.0, 1.0), 0.0, 0.0, 0.0, 0.9),
        lamps=(Lamp((0.0, -1.0, 3.0), (0.0, 1.0, -0.4), (0.5, 0.5, 0.5)),),
        ambient_light=(0.4, 0.4, 0.4),
        exposure=Exposure(noise=0.5),
        ambient_kelvin=293.0,
        emitters=emitters,
        present=present,
        noise_seed=5,
        quiet=1e-4,
    )


def block(name: str, y: float, kelvin: float = 293.0, half: float = 0.25) -> Item:
    """A cube of a class, centred on the optical axis, its front `y` metres away."""
    part = Part(Shape.BOX, (half, half, half), (0, half, 0), (0.6, 0.5, 0.4, 1), kelvin)
    return Item(class_id(name), (part,), (0.0, y, 1.0))


def same(one: Capture, other: Capture) -> bool:
    arrays = [(one.label, other.label), (one.boxes, other.boxes), (one.scene, other.scene)]
    arrays += [(one.frames[m].data, other.frames[m].data) for m in Modality]
    return all(a.tobytes() == b.tobytes() for a, b in arrays)


def test_a_capture_is_of_the_contract(rig: Any) -> None:
    rig.reset(3)
    rig.step(2.0)
    capture = rig.capture(sound_s=0.5, stamp_ns=10_000_000_000)
    shapes = {m: (f.data.shape, f.data.dtype) for m, f in capture.frames.items()}
    assert shapes == {
        Modality.RGB: ((240, 320, 3), np.uint8),
        Modality.DEPTH: ((240, 320), np.float32),
        Modality.THERMAL: ((240, 320), np.float32),
        Modality.AUDIO: ((AUDIO_RATE // 2,), np.float32),
    }
    assert capture.frames[Modality.RGB].stamp_ns == 10_000_000_000
    assert capture.frames[Modality.AUDIO].stamp_ns == 9_500_000_000
    assert capture.label.dtype == np.uint8
    assert capture.label.max() < len(CLASS_NAMES)
    assert capture.scene.shape == (len(SCENE_NAMES),)


def test_seed_and_time_give_the_same_bytes_in_any_order(rig: Any) -> None:
    rig.reset(21)
    rig.step(1.5)
    first = rig.capture()
    rig.step(4.0)
    later = rig.capture()
    rig.reset(22)
    other = rig.capture()
    rig.reset(21)
    rig.step(4.0)
    assert same(rig.capture(), later)
    rig.step(1.5)
    assert same(rig.capture(), first)
    assert not same(first, later)
    assert not same(first, other)


def test_labels_and_boxes_tell_the_same(rig: Any) -> None:
    seen = 0
    for seed in range(40, 60):
        rig.reset(seed)
        capture = rig.capture()
        covered = np.zeros(capture.label.shape, bool)
        for (x1, y1, x2, y2), found in zip(capture.boxes.astype(int), capture.class_ids, strict=True):
            inside = capture.label[y1:y2, x1:x2] == found
            assert np.count_nonzero(inside) >= MINIMUM_VISIBLE_PIXELS
            assert inside[0].any()
            assert inside[-1].any()
            assert inside[:, 0].any()
            assert inside[:, -1].any()
            covered[y1:y2, x1:x2] = True
            seen += 1
        loose = np.count_nonzero((capture.label > 0) & ~covered)
        assert loose < MINIMUM_VISIBLE_PIXELS * len(rig.scene.items)
    assert seen > 30


def test_boxes_of_items_leaves_out_background_and_specks() -> None:
    items = np.full((20, 30), -1, np.int32)
    items[2:10, 5:12] = 1
    items[0, 0] = 2
    items[12:, :] = 0
    boxes, class_ids = boxes_of_items(items, np.array([0, 4, 2, 0], np.uint8))
    np.testing.assert_array_equal(boxes, [[5, 2, 12, 10]])
    np.testing.assert_array_equal(class_ids, [4])


def test_depth_label_and_heat_of_a_known_block(rig: Any) -> None:
    rig.enter(stage(block("crate", 2.0, kelvin=330.0)))
    capture = rig.capture()
    fx, fy, cx, cy = rig.intrinsics
    label = capture.label == class_id("crate")
    half = 0.25 * fx / 2.0
    np.testing.assert_allclose(capture.boxes[0], [cx - half, cy - half, cx + half, cy + half], atol=1.5)
    assert fx == fy
    depth = capture.frames[Modality.DEPTH].data
    assert np.nanmedian(depth[label]) == pytest.approx(2.0, abs=0.005)
    assert np.nanmedian(depth[~label]) == pytest.approx(4.0, abs=0.01)
    assert 0.0005 < np.isnan(depth).mean() < 0.1
    kelvin = capture.frames[Modality.THERMAL].data
    assert np.median(kelvin[label]) == pytest.approx(293 + 37 * np.exp(-0.06), abs=0.7)
    assert np.median(kelvin[~label]) == pytest.approx(293.0, abs=0.5)


def test_range_of_the_depth_camera(rig: Any) -> None:
    rig.enter(stage(block("crate", 0.2, half=0.02), block("kettle", 1.0, half=0.4)))
    capture = rig.capture()
    depth = capture.frames[Modality.DEPTH].data
    assert np.isnan(depth[capture.label == class_id("crate")]).all()
    assert np.nanmedian(depth[capture.label == class_id("kettle")]) == pytest.approx(1.0, abs=0.01)


def test_hot_and_cold_cup_differ_in_heat_alone(rig: Any) -> None:
    captures = {}
    for hot in (True, False):
        parts = things.cup(np.random.default_rng(3), 0.3, hot, 293.0)
        name = "cup_hot" if hot else "cup_cold"
        rig.enter(stage(Item(class_id(name), tuple(parts), (0.0, 1.5, 0.85))))
        captures[hot] = rig.capture()
    mask = captures[True].label > 0
    np.testing.assert_array_equal(mask, captures[False].label > 0)
    for modality in (Modality.RGB, Modality.DEPTH):
        np.testing.assert_array_equal(*(captures[hot].frames[modality].data for hot in (True, False)))
    hot, cold = (np.median(captures[h].frames[Modality.THERMAL].data[mask]) for h in (True, False))
    assert hot > cold + 15


def test_ticking_and_silent_clock_differ_in_sound_alone(rig: Any) -> None:
    captures = {}
    for name in ("clock_ticking", "clock_silent"):
        parts = things.clock(np.random.default_rng(4), 0.2, True, 293.0)
        ticks = name == "clock_ticking"
        rig.enter(
            stage(
                Item(class_id(name), tuple(parts), (0.0, 1.5, 0.8)),
                emitters=(Emitter("tick", 9, 0.5, 1),) if ticks else (),
                present=frozenset({"ticking"} if ticks else ()),
            )
        )
        rig.step(3.0)
        captures[name] = rig.capture()
    ticking, silent = captures["clock_ticking"], captures["clock_silent"]
    for modality in (Modality.RGB, Modality.DEPTH, Modality.THERMAL):
        np.testing.assert_array_equal(ticking.frames[modality].data, silent.frames[modality].data)
    np.testing.assert_array_equal(ticking.label > 0, silent.label > 0)
    loud, quiet = (np.abs(c.frames[Modality.AUDIO].data).max() for c in (ticking, silent))
    assert loud > 10 * quiet
    assert (ticking.scene[0], silent.scene[0]) == (1.0, 0.0)


def test_a_person_in_the_dark_is_seen_by_heat_and_depth(rig: Any, find_seed: FindSeed) -> None:
    person = class_id("person")

    def wanted(scene: Scene) -> bool:
        cool = scene.ambient_kelvin < 295
        return cool and scene.exposure.gain < 0.02 and any(i.class_id == person for i in scene.items)

    rig.reset(find_seed(wanted))
    capture = rig.capture()
    mask = capture.label == person
    assert mask.sum() > 500
    rgb, kelvin = capture.frames[Modality.RGB].data, capture.frames[Modality.THERMAL].data
    assert rgb.mean() < 15
    assert np.median(kelvin[mask]) > np.median(kelvin[capture.label == 0]) + 2


def test_a_photograph_of_a_person_is_flat_cold_background(rig: Any) -> None:
    scene = next(s for s in map(compose, range(500)) if s.photographs)
    framed = next(i for i in scene.items if any(p.material == "photograph0" for p in i.parts))
    hung = replace(framed, at=(0.0, 2.5, 1.0))
    rig.enter(replace(stage(hung), photographs=scene.photographs[:1]))
    shown = rig.capture()
    rows, columns = slice(90, 150), slice(145, 175)
    assert shown.frames[Modality.RGB].data[rows, columns].std() > 15
    assert (shown.label == 0).all()
    assert np.nanstd(shown.frames[Modality.DEPTH].data[rows, columns]) < 0.03
    assert shown.frames[Modality.THERMAL].data[rows, columns].std() < 1.0


def test_red_and_blue_balls_differ_in_colour(rig: Any) -> None:
    means = {}
    for name, hues in (("ball_red", things.RED_HUES), ("ball_blue", things.BLUE_HUES)):
        parts = things.ball(np.random.default_rng(0), hues, 0.4, 293.0)
        rig.enter(stage(Item(class_id(name), tuple(parts), (0.0, 2.0, 0.6))))
        capture = rig.capture()
        means[name] = capture.frames[Modality.RGB].data[capture.label > 0].mean(axis=0)
    assert means["ball_red"][0] > means["ball_red"][2] + 60
    assert means["ball_blue"][2] > means["ball_blue"][0] + 60


def test_things_move_smoothly(rig: Any) -> None:
    moving = replace(block("crate", 2.0), motion=Motion((0.3, 0.0, 0.0), 0.0, 4.0))
    rig.enter(stage(moving))
    centres = []
    for step in range(9):
        rig.step(step / 15)
        x1, _, x2, _ = rig.capture().boxes[0]
        centres.append((x1 + x2) / 2)
    steps = np.diff(centres)
    assert np.all(steps > 0)
    assert np.all(steps < 8)


def test_sound_goes_on_across_captures(rig: Any) -> None:
    rig.enter(stage(block("kettle", 2.0), emitters=(Emitter("boil", 2, 0.2, 1),)))
    rig.step(1.0)
    whole = rig.capture(sound_s=0.5).frames[Modality.AUDIO].data
    pieces = []
    for step in range(6, 11):
        rig.step(step / 10)
        pieces.append(rig.capture(sound_s=0.1).frames[Modality.AUDIO].data)
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


def test_too_many_parts_are_refused_by_number(rig: Any) -> None:
    crowd = tuple(block("crate", 2.0) for _ in range(300))
    with pytest.raises(SceneError, match=r"at most 200 parts and 3 lamps, got 301 parts"):
        rig.enter(stage(*crowd))
    rig.reset(0)
    assert rig.capture().label.shape == (240, 320)


def test_the_stain_under_a_thing_is_floor(rig: Any) -> None:
    stain = things.shadow(0.5, 293.0)
    rig.enter(stage(Item(class_id("crate"), (stain,), (0.0, 2.0, 0.5))))
    capture = rig.capture()
    assert (capture.label == 0).all()
    assert capture.boxes.shape == (0, 4)


def test_the_wrong_thread_and_a_closed_rig_are_told(rig: Any) -> None:
    from robust_perception.simulation.rig import Rig

    with ThreadPoolExecutor(1) as pool, pytest.raises(GraphicsError, match="thread that made the rig"):
        pool.submit(rig.capture).result()
    closed = Rig(1)
    closed.close()
    with pytest.raises(GraphicsError, match="closed"):
        closed.capture()


def test_another_size(rig: Any) -> None:
    from robust_perception.simulation.rig import Rig

    with Rig(3, size=(160, 200)) as small:
        assert small.capture().frames[Modality.RGB].data.shape == (160, 200, 3)
    with pytest.raises(SceneError, match="at least"):
        Rig(3, size=(64, 64))
    rig.reset(3)
    assert rig.capture().label.shape == (240, 320)
