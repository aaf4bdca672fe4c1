"""The networks that the tests of this folder put together."""

from __future__ import annotations

from typing import Any

import torch
from measurements import shake

from robust_perception.model.network import Network
from robust_perception.model.network_config import NetworkConfig
from robust_perception.vocabulary import MODALITIES, Modality

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "sum": {"fusion": "sum"},
    "cyin": {"fusion": "sum", "bottleneck": 16, "translation": "sum"},
    "joint": {
        "width": 32, "bottleneck": 16, "translation": "mean", "shared": True, "probabilistic": True,
        "auxiliary": True,
    },
    "poe": {"bottleneck": 16, "translation": "poe", "shared": True},
}  # fmt: skip
"""What of the papers a network has; the halves of the joint one are wide enough for translators to learn."""


def build(variant: str, modalities: tuple[Modality, ...] = MODALITIES) -> Network:
    """A narrow network with random weights, in evaluation mode."""
    torch.manual_seed(0)
    names = {"class_names": ("background", "cup", "crate"), "scene_names": ("quiet", "loud")}
    widths = {"width": 16, "audio_width": 16}
    built = Network(NetworkConfig(modalities, **{**names, **widths, **VARIANTS[variant]}))
    shake(built.fusion)
    shake(built.representers)
    return built.eval()
