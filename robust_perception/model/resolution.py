"""How fine the map is that a layer gives, told from its name.

A stride of s is one cell for s x s pixels of the image. What has no pixels has none: a sound's vector, and
what is made of it. All in a block of a backbone has the stride that the block ends with.
"""

from __future__ import annotations

from robust_perception.model.efficientnet import STAGES, STRIDES
from robust_perception.model.encoders import LEVELS

STEM_STRIDE = 2
"""Of a backbone's first convolution."""

WIDE = ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1")
"""Layers of an inverted-residual block that have six times the channels of what goes in and comes out."""


def stride_of(name: str) -> int | None:
    """Stride of what the layer of this dotted name gives; None where there are no pixels."""
    parts = name.split(".")
    if "sound" in parts:
        return None
    for part, following in zip(parts, [*parts[1:], ""], strict=True):
        if part == "_blocks":
            return _block_strides()[int(following)]
        if part in STRIDES:
            return STRIDES[part]
        if part == "levels" and following.isdigit():
            return STRIDES[LEVELS[int(following)]]
        if part == "convs" and following.isdigit():  # of the decoder, coarse to fine
            return STRIDES[LEVELS[::-1][int(following)]]
    if "backbone" in parts:
        return STEM_STRIDE
    if "embedding" in parts:
        return STRIDES[LEVELS[-1]]
    return None


def is_wide(name: str) -> bool:
    """Whether a layer is one of the wide ones between a block's ends."""
    parts = name.split(".")
    return "_blocks" in parts and parts[-1] in WIDE


def _block_strides() -> list[int]:
    strides, stride = [], STEM_STRIDE
    for stage in STAGES:
        stride *= stage.stride
        strides += [stride] * stage.repeats
    return strides
