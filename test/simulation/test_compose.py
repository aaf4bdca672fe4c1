"""Scenes as values: no graphics needed."""

from __future__ import annotations

import numpy as np
import pytest

from robust_perception.simulation.classes import CLASS_NAMES, SCENE_NAMES, class_id
from robust_perception.simulation.compose import compose
from robust_perception.simulation.scene import Scene, along

SEEDS = range(150)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [compose(seed) for seed in SEEDS]


def flat(scene: Scene, t: float) -> np.ndarray:
    """Every number that places something at time `t`."""
    places = [item.position(t) for item in scene.items]
    parts = [part for item in scene.items for part in item.poses(t)[0]]
    return np.concatenate([*places, *parts, scene.camera.pose(t)[0]])


def test_a_seed_is_a_scene(scenes: list[Scene]) -> None:
    for seed in (0, 17, 149):
        again = compose(seed)
        np.testing.assert_array_equal(flat(again, 3.7), flat(scenes[seed], 3.7))
        assert again.exposure == scenes[seed].exposure
        assert again.emitters == scenes[seed].emitters
    assert len({scene.noise_seed for scene in scenes}) == len(scenes)


def test_every_class_and_scene_class_occurs_and_is_sometimes_absent(scenes: list[Scene]) -> None:
    for name in CLASS_NAMES[1:]:
        share = np.mean([any(i.class_id == class_id(name) for i in scene.items) for scene in scenes])
        assert 0.1 < share < 0.9, name
    for name in SCENE_NAMES:
        assert 0.1 < np.mean([name in scene.present for scene in scenes]) < 0.9, name


def test_sound_and_sight_agree(scenes: list[Scene]) -> None:
    kinds = {"tick": "ticking", "voice": "voice", "boil": "boiling"}
    for scene in scenes:
        present = [CLASS_NAMES[item.class_id] for item in scene.items]
        clocks = [name for name in present if name.startswith("clock")]
        assert len(clocks) <= 1
        assert ("ticking" in scene.present) == (clocks == ["clock_ticking"])
        assert {kinds[emitter.kind] for emitter in scene.emitters} == scene.present
        if "boiling" in scene.present:
            assert "kettle" in present


def test_hot_and_cold_cups_look_alike(scenes: list[Scene]) -> None:
    def colours(name: str) -> np.ndarray:
        cups = [i for scene in scenes for i in scene.items if i.class_id == class_id(name)]
        return np.array([cup.parts[0].rgba[:3] for cup in cups])

    hot, cold = colours("cup_hot"), colours("cup_cold")
    assert len(hot) > 50
    assert len(cold) > 50
    error = np.sqrt(hot.var(axis=0) / len(hot) + cold.var(axis=0) / len(cold))
    assert np.all(np.abs(hot.mean(axis=0) - cold.mean(axis=0)) < 4 * error)


def test_things_move_and_furniture_does_not(scenes: list[Scene]) -> None:
    walking = [
        i for scene in scenes for i in scene.items if i.gait is not None and i.motion.amplitude[0] > 0.3
    ]
    assert walking
    person = walking[0]
    step = np.abs(person.poses(0.3)[0] - person.poses(0.0)[0]).max()
    assert 0.01 < step < 1.0
    for scene in scenes:
        crate = [i for i in scene.items if i.class_id == class_id("crate")]
        for item in crate:
            np.testing.assert_array_equal(item.position(0.0), item.position(4.2))


@pytest.mark.parametrize("end", [(0, 0, 1), (0, 0, -1), (1, 0, 0), (0.3, -0.7, 0.2)])
def test_a_rod_points_from_start_to_end(end: tuple[float, float, float]) -> None:
    start = np.array([0.1, 0.2, 0.3])
    stop = start + np.array(end)
    centre, turn, half = along(start, stop)
    np.testing.assert_allclose(centre + turn[:, 2] * half, stop, atol=1e-12)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(turn) == pytest.approx(1.0)


def test_an_unknown_class_is_named() -> None:
    with pytest.raises(ValueError, match=r"one of background, person, .* got 'teapot'"):
        class_id("teapot")
