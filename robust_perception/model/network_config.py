"""The shape of a network: what it knows, how wide it is, which of the papers' parts it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from robust_perception.model.errors import ModelError
from robust_perception.model.translation import RULES, pair_name, pairs_of
from robust_perception.vocabulary import IMAGE_MODALITIES, Modality

FUSIONS = ("gated", "sum")


@dataclass(frozen=True)
class NetworkConfig:
    """Shape of the network.

    Attributes:
        modalities: sensors it knows.
        class_names: label id -> name; index 0 is the background.
        scene_names: scene class -> name; may be empty.
        width: C, channels of the image latents p3, p4, p5; a multiple of 8.
        fine_width: C_2, channels of p2; a multiple of 8.
        audio_width: D, length of the sound's vector; a multiple of 8.
        depth_mean, depth_std: of the valid training depths, metres.
        thermal_mean, thermal_std: of the training temperatures, kelvin.
        fusion: "gated", or "sum", the plain rival that knows no patterns.
        bottleneck: hidden width of CyIN's information bottleneck, 0 = none.
        translation: rule of the missing latent, "mean", "sum" or "poe"; "none" = missing stays missing.
        translator_blocks: autoencoders in a translator.
        seen: names of the pairs of sensors that training saw together ("rgb-depth"), None = all.
        shared: whether latents are split into a shared and a unique half (Robult).
        probabilistic: whether the fused latent is a distribution (DMRNet).
        auxiliary: whether there is a second decoder for hard combinations.
    """

    modalities: tuple[Modality, ...]
    class_names: tuple[str, ...]
    scene_names: tuple[str, ...] = ()
    width: int = 64
    fine_width: int = 64
    audio_width: int = 128
    depth_mean: float = 1.5
    depth_std: float = 1.0
    thermal_mean: float = 295.0
    thermal_std: float = 5.0
    fusion: str = "gated"
    bottleneck: int = 0
    translation: str = "none"
    translator_blocks: int = 2
    seen: tuple[str, ...] | None = None
    shared: bool = False
    probabilistic: bool = False
    auxiliary: bool = False
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
        for name in ("width", "fine_width", "audio_width"):
            value = getattr(self, name)
            if value < 8 or value % 8:
                msg = f"{name} is a positive multiple of 8 (groups of the normalisation), got {value}"
                raise ModelError(msg)
        for name, got, allowed in (
            ("fusion", self.fusion, FUSIONS),
            ("translation", self.translation, ("none", *RULES)),
        ):
            if got not in allowed:
                msg = f"{name}: expected one of {allowed}, got {got!r}"
                raise ModelError(msg)
        if self.translation == "poe" and not self.bottleneck:
            msg = "translation 'poe' weighs by variances, which need a bottleneck; got bottleneck 0"
            raise ModelError(msg)
        pairs = {pair_name(pair) for pair in pairs_of(self.modalities)}
        if self.seen is not None and not set(self.seen) <= pairs:
            msg = f"seen: expected names of pairs out of {sorted(pairs)}, got {list(self.seen)}"
            raise ModelError(msg)

    @property
    def informative(self) -> bool:
        """Whether latents go through `representation`."""
        return bool(self.bottleneck) or self.shared or self.translation != "none"

    @property
    def sound_width(self) -> int:
        """Length of the sound's vector as fusion gets it; 0 without sound."""
        if Modality.AUDIO not in self.modalities:
            return 0
        return self.width if self.informative else self.audio_width

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
        if values.get("seen") is not None:
            values["seen"] = tuple(values["seen"])
        return cls(**values)
