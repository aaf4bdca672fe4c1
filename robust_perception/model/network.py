"""The network: encoders, fusion, decoder, heads, put together.

raw input of sensor m -> encoder m -> latents of m        only for sensors that are there
latents, pattern      -> fusion -> decoder -> heads       always
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from robust_perception.model.decoder import PyramidDecoder
from robust_perception.model.encoders import LEVELS, AudioEncoder, ImageEncoder
from robust_perception.model.errors import ModelError
from robust_perception.model.fusion import LevelFusion, is_present
from robust_perception.model.heads import DetectionHead, Detections, SceneHead, SegmentationHead
from robust_perception.vocabulary import IMAGE_MODALITIES, MODALITIES, Modality

Latents = dict[Modality, tuple[Tensor, ...]]
"""Per modality the outputs of its encoder: p2..p5, or one vector for sound."""


@dataclass(frozen=True)
class NetworkConfig:
    """Shape of the network.

    Attributes:
        modalities: sensors it knows.
        class_names: label id -> name; index 0 is the background.
        scene_names: scene class -> name; may be empty.
        width: C, channels of the image latents; a multiple of 8.
        audio_width: D, length of the sound's vector; a multiple of 8.
        depth_mean, depth_std: of the valid training depths, metres.
        thermal_mean, thermal_std: of the training temperatures, kelvin.
    """

    modalities: tuple[Modality, ...]
    class_names: tuple[str, ...]
    scene_names: tuple[str, ...] = ()
    width: int = 64
    audio_width: int = 128
    depth_mean: float = 1.5
    depth_std: float = 1.0
    thermal_mean: float = 295.0
    thermal_std: float = 5.0
    image_modalities: tuple[Modality, ...] = field(init=False)

    def __post_init__(self) -> None:
        images = tuple(m for m in IMAGE_MODALITIES if m in self.modalities)
        object.__setattr__(self, "image_modalities", images)
        if not images:
            names = [m.value for m in self.modalities]
            msg = f"a network needs at least one of rgb, depth, thermal; got modalities {names}"
            raise ModelError(msg)
        if len(self.class_names) < 2:
            msg = f"a network needs a background and at least one class, got {list(self.class_names)}"
            raise ModelError(msg)
        for name, value in (("width", self.width), ("audio_width", self.audio_width)):
            if value < 8 or value % 8:
                msg = f"{name} is a positive multiple of 8 (groups of the normalisation), got {value}"
                raise ModelError(msg)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` reads them."""
        plain = asdict(self)
        del plain["image_modalities"]
        plain["modalities"] = [m.value for m in self.modalities]
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> NetworkConfig:
        """Read what `to_dict` wrote."""
        values = dict(plain)
        values["modalities"] = tuple(Modality(name) for name in values["modalities"])
        values["class_names"] = tuple(values["class_names"])
        values["scene_names"] = tuple(values["scene_names"])
        return cls(**values)


class Outputs(NamedTuple):
    """What the heads say.

    Attributes:
        segmentation: logits, float32 (B, classes, H, W).
        detections: raw detections at strides 8, 16, 32.
        scene: logits, float32 (B, S), or None without scene classes.
    """

    segmentation: Tensor
    detections: Detections
    scene: Tensor | None


class FusionNetwork(nn.Module):
    """From latents and pattern to outputs: the half that always runs."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        audio_width = config.audio_width if Modality.AUDIO in config.modalities else 0
        self.levels = nn.ModuleList(
            LevelFusion(config.image_modalities, config.width, audio_width) for _ in LEVELS
        )
        self.decoder = PyramidDecoder(config.width)
        self.segmentation = SegmentationHead(config.width, len(config.class_names))
        self.detection = DetectionHead(config.width, len(config.class_names) - 1)
        self.scene = (
            SceneHead(config.width, audio_width, len(config.scene_names)) if config.scene_names else None
        )

    def forward(self, latents: Latents, pattern: Tensor, size: tuple[int, int]) -> Outputs:
        """Fuse, decode, predict.

        Args:
            latents: of every modality of the network; whatever the pattern leaves out is not looked at.
            pattern: int64 (B,), bitmask 1..15.
            size: (H, W) of the images.
        """
        audio = None
        if Modality.AUDIO in latents:
            vector = latents[Modality.AUDIO][0]
            present = is_present(pattern, Modality.AUDIO)[:, None]
            audio = torch.where(present, vector, 0.0)
        fused = [
            fusion({m: latents[m][i] for m in self.config.image_modalities}, audio, pattern)
            for i, fusion in enumerate(self.levels)
        ]
        decoded = self.decoder(fused)
        return Outputs(
            self.segmentation(decoded, size),
            self.detection(decoded[1:]),
            self.scene(decoded, audio) if self.scene is not None else None,
        )


class Network(nn.Module):
    """Encoders and fusion network."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        statistics = {
            Modality.DEPTH: (config.depth_mean, config.depth_std),
            Modality.THERMAL: (config.thermal_mean, config.thermal_std),
        }
        self.encoders = nn.ModuleDict()
        for modality in MODALITIES:
            if modality in config.image_modalities:
                mean, std = statistics.get(modality, (0.0, 1.0))
                self.encoders[modality.value] = ImageEncoder(modality, config.width, mean, std)
            elif modality in config.modalities:
                self.encoders[modality.value] = AudioEncoder(config.audio_width)
        self.fusion = FusionNetwork(config)

    def encode(self, inputs: Mapping[Modality, Tensor]) -> Latents:
        """Latents of every modality of the network from its raw inputs (see `encoders`)."""
        latents: Latents = {}
        for modality in self.config.modalities:
            out = self.encoders[modality.value](inputs[modality])
            latents[modality] = (out,) if isinstance(out, Tensor) else out
        return latents

    def forward(self, inputs: Mapping[Modality, Tensor], pattern: Tensor) -> Outputs:
        """Raw inputs of all modalities, and the pattern int64 (B,) that says which count."""
        image = inputs[self.config.image_modalities[0]]
        return self.fusion(self.encode(inputs), pattern, (image.shape[1], image.shape[2]))  # type: ignore[no-any-return]

    def load_imagenet(self) -> None:
        """Start every image encoder from ImageNet weights."""
        for modality in self.config.image_modalities:
            encoder = self.encoders[modality.value]
            assert isinstance(encoder, ImageEncoder)
            encoder.backbone.load_imagenet()
