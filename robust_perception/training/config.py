"""Configuration of a training run: one dataclass a concern, YAML in, YAML beside the run.

A YAML file has one section a dataclass; every key may be left out and takes its default. A key nobody knows
is refused with the list of those that are allowed: a misspelt learning rate would cost a night.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import hashlib
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from robust_perception.training.errors import ConfigError
from robust_perception.vocabulary import IMAGE_MODALITIES, Modality

Section = TypeVar("Section")


def _expect(condition: bool, what: str, expected: str, got: object) -> None:
    if not condition:
        msg = f"{what}: expected {expected}, got {got!r}"
        raise ConfigError(msg)


@dataclass(frozen=True)
class DataConfig:
    """What is read.

    Attributes:
        classes: "fine" or "coarse" labels of the data folder.
        modalities: names of the sensors the model shall know; empty = all that the training split has.
        size: (H, W) of the exported model, pixels.
    """

    classes: str = "fine"
    modalities: tuple[str, ...] = ()
    size: tuple[int, int] = (240, 320)

    def __post_init__(self) -> None:
        _expect(self.classes in ("fine", "coarse"), "data.classes", "'fine' or 'coarse'", self.classes)
        known = [m.value for m in Modality]
        _expect(
            set(self.modalities) <= set(known), "data.modalities", f"names out of {known}", self.modalities
        )
        images = {m.value for m in IMAGE_MODALITIES}
        some_image = not self.modalities or bool(images & set(self.modalities))
        _expect(some_image, "data.modalities", f"at least one of {sorted(images)}", self.modalities)
        sides = all(side >= 64 and side % 32 in (0, 16) for side in self.size)
        _expect(sides, "data.size", "[H, W], each a multiple of 16 from 64 on", self.size)


@dataclass(frozen=True)
class NetworkShape:
    """Width of the network; see `model.network.NetworkConfig`."""

    width: int = 64
    audio_width: int = 128
    imagenet: bool = True

    def __post_init__(self) -> None:
        for name in ("width", "audio_width"):
            value = getattr(self, name)
            _expect(value >= 8 and value % 8 == 0, f"network.{name}", "a positive multiple of 8", value)


@dataclass(frozen=True)
class AugmentationConfig:
    """How a training crop is made.

    Attributes:
        crop: (H, W) of the crops, multiples of 32.
        scale: range of the zoom, log-uniform.
        around_object: probability that a crop contains the centre of an object instead of lying anywhere.
        flip: probability of mirroring left and right.
        brightness, contrast, saturation: largest relative change of the colours.
        darkness: probability of a dark, noisy colour picture.
        blank: probability of a colour picture in which hardly anything can be seen.
        thermal_offset: largest shift of all temperatures, kelvin.
        thermal_noise: largest standard deviation of temperature noise, kelvin.
        depth_scale: largest relative change of all distances.
        depth_holes: largest number of patches without a measurement.
        audio_gain: largest change of loudness, decibels.
        audio_shift: whether sound is rolled in time.
    """

    crop: tuple[int, int] = (128, 160)
    scale: tuple[float, float] = (0.75, 1.35)
    around_object: float = 0.8
    flip: float = 0.5
    brightness: float = 0.3
    contrast: float = 0.3
    saturation: float = 0.3
    darkness: float = 0.1
    blank: float = 0.0
    thermal_offset: float = 0.0
    thermal_noise: float = 0.05
    depth_scale: float = 0.03
    depth_holes: int = 2
    audio_gain: float = 6.0
    audio_shift: bool = True

    def __post_init__(self) -> None:
        fits = all(side >= 32 and side % 32 == 0 for side in self.crop)
        _expect(fits, "augmentation.crop", "[H, W], positive multiples of 32", self.crop)
        ordered = 0.0 < self.scale[0] <= self.scale[1]
        _expect(ordered, "augmentation.scale", "[low, high] with 0 < low <= high", self.scale)
        for name in ("around_object", "flip", "darkness", "blank"):
            value = getattr(self, name)
            _expect(0.0 <= value <= 1.0, f"augmentation.{name}", "a probability", value)
        for name in ("brightness", "contrast", "saturation", "depth_scale"):
            value = getattr(self, name)
            _expect(0.0 <= value < 1.0, f"augmentation.{name}", "a value in [0, 1)", value)
        for name in ("thermal_offset", "thermal_noise", "depth_holes", "audio_gain"):
            _expect(getattr(self, name) >= 0, f"augmentation.{name}", "a value >= 0", getattr(self, name))


@dataclass(frozen=True)
class PatternConfig:
    """Which sensors a training sample shows.

    Attributes:
        dropout_weight: weight of the loss under a random pattern; 0 = no such pass.
        full_weight: weight of the loss under everything the sample has; 0 = no such pass. Without this pass
            the richest pattern is seen once in 2^M - 1 times and pays for the robustness of the others.
        distillation: weight of the divergence from the full pass's label probabilities to the random
            pattern's; 0 = off.
    """

    dropout_weight: float = 1.0
    full_weight: float = 1.0
    distillation: float = 0.0

    def __post_init__(self) -> None:
        for name in ("dropout_weight", "full_weight", "distillation"):
            _expect(getattr(self, name) >= 0, f"patterns.{name}", "a value >= 0", getattr(self, name))
        _expect(self.dropout_weight + self.full_weight > 0, "patterns", "one pass with a weight", self)
        both = self.distillation == 0 or (self.dropout_weight > 0 and self.full_weight > 0)
        _expect(both, "patterns.distillation", "0 unless both passes have a weight", self.distillation)


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses; see `losses`."""

    cross_entropy: float = 1.0
    dice: float = 1.0
    detection_class: float = 0.5
    detection_box: float = 0.5
    detection_centre: float = 0.25
    scene: float = 0.5
    background_weight: float = 1.0

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            _expect(value >= 0, f"losses.{name}", "a value >= 0", value)


@dataclass(frozen=True)
class OptimiserConfig:
    """AdamW with a warm-up and a half cosine down to zero.

    Attributes:
        epochs: passes over the training split.
        batch: samples a step.
        learning_rate: at its peak, for new layers.
        backbone_scale: factor of it for layers that start from ImageNet.
        weight_decay: on matrices and kernels only.
        warmup: part of all steps over which the rate rises.
        gradient_norm: gradients are scaled down to this norm.
        average: decay of the running average of the weights that is validated and exported; 0 = none.
    """

    epochs: int = 36
    batch: int = 8
    learning_rate: float = 1e-3
    backbone_scale: float = 0.5
    weight_decay: float = 0.02
    warmup: float = 0.05
    gradient_norm: float = 5.0
    average: float = 0.995

    def __post_init__(self) -> None:
        for name in ("epochs", "batch"):
            _expect(getattr(self, name) >= 1, f"optimiser.{name}", "a positive count", getattr(self, name))
        for name in ("learning_rate", "gradient_norm"):
            _expect(getattr(self, name) > 0, f"optimiser.{name}", "a value > 0", getattr(self, name))
        for name in ("backbone_scale", "weight_decay"):
            _expect(getattr(self, name) >= 0, f"optimiser.{name}", "a value >= 0", getattr(self, name))
        for name in ("warmup", "average"):
            _expect(0 <= getattr(self, name) < 1, f"optimiser.{name}", "in [0, 1)", getattr(self, name))


@dataclass(frozen=True)
class ValidationConfig:
    """When and on how much the run is validated.

    Attributes:
        every: epochs from one validation to the next.
        first: epoch of the first one; the last epoch always has one.
        limit: samples, evenly spread over the split; 0 = all.
    """

    every: int = 4
    first: int = 1
    limit: int = 0

    def __post_init__(self) -> None:
        _expect(self.every >= 1, "validation.every", "a positive count", self.every)
        _expect(self.first >= 1, "validation.first", "a positive count", self.first)
        _expect(self.limit >= 0, "validation.limit", "a count", self.limit)


@dataclass(frozen=True)
class TrainingConfig:
    """A whole run.

    Attributes:
        name: of the exported model.
        license: of the exported model, an SPDX identifier or words.
    """

    name: str = "model"
    license: str = "unspecified"
    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkShape = field(default_factory=NetworkShape)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    patterns: PatternConfig = field(default_factory=PatternConfig)
    losses: LossConfig = field(default_factory=LossConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)

    @classmethod
    def load(cls, path: Path) -> TrainingConfig:
        """Read a YAML file.

        Raises:
            ConfigError: no such file, no YAML, an unknown key or a value that is not allowed.
        """
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            msg = f"{path}: expected a YAML file, got {error}"
            raise ConfigError(msg) from None
        try:
            return read_section(cls, {} if content is None else content, "")
        except ConfigError as error:
            msg = f"{path}: {error}"
            raise ConfigError(msg) from None

    def to_text(self) -> str:
        """The configuration as YAML, every value spelt out."""
        return yaml.safe_dump(_plain(dataclasses.asdict(self)), sort_keys=False)

    @property
    def sha256(self) -> str:
        """Identity of the configuration."""
        return hashlib.sha256(self.to_text().encode()).hexdigest()


def read_section(kind: type[Section], content: object, where: str) -> Section:
    """A dataclass out of plain values, its nested dataclasses included.

    Args:
        kind: the dataclass.
        content: what YAML gave.
        where: dotted place of the section, for messages.

    Raises:
        ConfigError: a key is unknown, or a value has another type or is not allowed.
    """
    if not isinstance(content, Mapping):
        msg = f"{where or 'configuration'}: expected keys and values, got {content!r}"
        raise ConfigError(msg)
    hints = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    for key, value in content.items():
        place = f"{where}.{key}" if where else str(key)
        if key not in hints:
            near = difflib.get_close_matches(str(key), list(hints), 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            msg = f"unknown key {place!r}: expected one of {sorted(hints)}{hint}"
            raise ConfigError(msg)
        values[str(key)] = _read(hints[key], value, place)
    return kind(**values)


def _read(hint: Any, value: object, place: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return read_section(hint, value, place)
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)
        fits = isinstance(value, list) and (inner[-1] is Ellipsis or len(value) == len(inner))
        _expect(fits, place, _name(hint), value)
        kinds = [inner[0]] * len(typing.cast("list[Any]", value)) if inner[-1] is Ellipsis else inner
        return tuple(_read(k, v, place) for k, v in zip(kinds, typing.cast("list[Any]", value), strict=True))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str):
        # YAML 1.1 reads 1e-3 as text.
        with contextlib.suppress(ValueError):
            value = float(value)
    if isinstance(value, float):
        _expect(math.isfinite(value), place, "a finite number", value)
    exact = isinstance(value, hint) and (hint is bool or not isinstance(value, bool))
    _expect(exact, place, _name(hint), value)
    return value


def _name(hint: Any) -> str:
    return str(hint) if isinstance(hint, types.GenericAlias) else hint.__name__


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return list(value) if isinstance(value, tuple) else value
