"""What an encoder does with raw measurements before the first layer, and what comes out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from measurements import SIZE, raw_inputs

from robust_perception.model.encoders import AudioEncoder, ChannelNorm, ImageEncoder
from robust_perception.model.network import Network
from robust_perception.vocabulary import IMAGE_MODALITIES, Modality


def test_rgb_is_scaled_as_the_published_weights_want_it() -> None:
    x = torch.tensor([0, 127, 255], dtype=torch.uint8).reshape(1, 1, 1, 3)
    found = ImageEncoder(Modality.RGB, 8, 8).normalise(x)
    assert found.shape == (1, 3, 1, 1)
    assert found.flatten().tolist() == [-127 / 128, 0.0, 1.0]


def test_missing_depth_is_zero_and_says_so() -> None:
    x = torch.tensor([[[2.0, float("nan"), 5.0]]])
    found = ImageEncoder(Modality.DEPTH, 8, 8, mean=2.0, std=1.5).normalise(x)
    assert found[0, 0, 0].tolist() == [0.0, 0.0, 2.0]
    assert found[0, 1, 0].tolist() == [1.0, 0.0, 1.0]


def test_heat_has_a_fine_channel_and_one_for_the_whole_range() -> None:
    x = torch.tensor([[[290.0, 295.0, 1000.0]]])
    found = ImageEncoder(Modality.THERMAL, 8, 8, mean=290.0, std=5.0).normalise(x)
    assert found[0, 0, 0].tolist() == [0.0, 1.0, 142.0]
    assert found[0, 1, 0].tolist() == [0.0, 0.125, 1.0]


@pytest.mark.parametrize("modality", IMAGE_MODALITIES)
def test_image_latents_have_the_strides(modality: Modality, network: Network) -> None:
    with torch.no_grad():
        levels = network.encoders[modality.value](raw_inputs(SIZE, batch=2)[modality])
    width = network.config.width
    assert [tuple(level.shape) for level in levels] == [
        (2, network.config.fine_width, 18, 22), (2, width, 9, 11), (2, width, 5, 6), (2, width, 3, 3)
    ]  # fmt: skip
    assert all(bool(torch.isfinite(level).all()) for level in levels)


@pytest.mark.parametrize("value", [float("nan"), 0.0, 1e4])
def test_extreme_depth_gives_finite_latents(value: float, network: Network) -> None:
    with torch.no_grad():
        levels = network.encoders["depth"](torch.full((1, *SIZE), value))
    assert all(bool(torch.isfinite(level).all()) for level in levels)


def test_sound_becomes_one_vector_and_time_of_day_does_not_matter() -> None:
    torch.manual_seed(0)
    encoder = AudioEncoder(16).eval()
    sound = raw_inputs(SIZE)[Modality.AUDIO]
    with torch.no_grad():
        here = encoder(sound)
        silence = encoder(torch.zeros_like(sound))
    assert here.shape == (1, 16)
    assert not torch.equal(here, silence)
    assert bool(torch.isfinite(silence).all())


def test_channel_norm_is_its_formula_and_looks_at_no_other_pixel() -> None:
    torch.manual_seed(0)
    norm = ChannelNorm(16)
    with torch.no_grad():
        norm.weight.copy_(torch.rand(16) + 0.5)
        norm.bias.copy_(torch.randn(16))
        x = torch.randn(2, 16, 3, 4) * 5 + 2
        expected = torch.nn.functional.layer_norm(x.movedim(1, -1), (16,), norm.weight, norm.bias, 1e-5)
        torch.testing.assert_close(norm(x), expected.movedim(-1, 1))
        torch.testing.assert_close(norm(x)[:, :, :1, :1], norm(x[:, :, :1, :1]))


@pytest.mark.parametrize("modality", list(Modality))
def test_samples_of_a_batch_do_not_mix(modality: Modality, network: Network) -> None:
    raw = raw_inputs(SIZE, batch=2)[modality]
    encoder = network.encoders[modality.value]
    with torch.no_grad():
        together, alone = encoder(raw), encoder(raw[1:])
    for both, one in zip(
        together if modality.is_image else [together], alone if modality.is_image else [alone], strict=True
    ):
        np.testing.assert_allclose(both[1:].numpy(), one.numpy(), atol=2e-5, rtol=2e-5)
