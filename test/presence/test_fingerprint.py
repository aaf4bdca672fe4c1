"""The fingerprint sees noise, shape and type, and takes NaN for what it is."""

from __future__ import annotations

import numpy as np
import pytest

from robust_perception.presence.fingerprint import WHOLE, fingerprint


@pytest.mark.parametrize("shape", [(240, 320, 3), (16_000,), (1, 1), (0,)])
def test_equal_content_has_equal_fingerprints(shape):
    data = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    assert fingerprint(data) == fingerprint(data.copy())


def test_a_single_byte_counts_in_a_frame_read_whole():
    data = np.zeros((240, 320, 3), np.uint8)
    assert data.nbytes <= WHOLE
    other = data.copy()
    other[111, 222, 1] = 1
    assert fingerprint(data) != fingerprint(other)


def test_sensor_noise_shows_in_a_thinned_frame():
    rng = np.random.default_rng(0)
    scene = rng.integers(0, 200, (1080, 1920, 3), np.uint8)
    prints = {fingerprint(scene + (rng.random(scene.shape) < 1e-4)) for _ in range(5)}
    assert len(prints) == 5


def test_shape_and_type_count():
    data = np.zeros(12, np.float32)
    assert len({fingerprint(data), fingerprint(data.reshape(3, 4)), fingerprint(data.view(np.int32))}) == 3


def test_depth_with_nan_equals_itself():
    depth = np.full((4, 4), np.nan, np.float32)
    assert fingerprint(depth) == fingerprint(depth.copy())


def test_a_view_that_is_not_contiguous_equals_its_copy():
    data = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    assert fingerprint(data[:, ::-1]) == fingerprint(data[:, ::-1].copy())
