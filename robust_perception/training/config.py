"""Configuration of a training run: one dataclass a concern, YAML in, YAML beside the run.

A YAML file has one section a dataclass; every key may be left out and takes its default.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from robust_perception.model.network_config import FUSIONS
from robust_perception.model.translation import RULES
from robust_perception.training.errors import ConfigError
from robust_perception.training.method_config import (
    AdaptationConfig,
    MethodConfig,
    PatternConfig,
    StageConfig,
)
from robust_perception.training.sections import different, expect, plain, read_section, read_yaml
from robust_perception.training.stages import boundaries
from robust_perception.vocabulary import IMAGE_MODALITIES, Modality


@dataclass(frozen=True)
class DataConfig:
    """What is read.

    Attributes:
        classes: "fine" or "coarse" labels of the data folder.
        modalities: names of the sensors the model shall know; empty = all that the training split has.
        size: (H, W) of the exported model, pixels.
        labelled: part of the training samples with labels whose labels are used, in (0, 1]; the others are
            seen without. Which ones depends on the seed alone, a smaller part lies inside a larger one.
        labelled_in_batch: where a smaller part of the samples than this has labels, this part of every batch
            does, in [0, 1], and those samples come several times in an epoch. Where as many or more have any,
            all samples come once and chance deals them out, so always with 0.
        class_balance: how much oftener samples with labels come whose classes are rare, in [0, 1]: 0 = all
            alike, 1 = every class about equally often (`rarity`).
    """

    classes: str = "fine"
    modalities: tuple[str, ...] = ()
    size: tuple[int, int] = (240, 320)
    labelled: float = 1.0
    labelled_in_batch: float = 0.5
    class_balance: float = 0.0

    def __post_init__(self) -> None:
        expect(self.classes in ("fine", "coarse"), "data.classes", "'fine' or 'coarse'", self.classes)
        known = [m.value for m in Modality]
        expect(
            set(self.modalities) <= set(known), "data.modalities", f"names out of {known}", self.modalities
        )
        images = {m.value for m in IMAGE_MODALITIES}
        some_image = not self.modalities or bool(images & set(self.modalities))
        expect(some_image, "data.modalities", f"at least one of {sorted(images)}", self.modalities)
        sides = all(side >= 64 and side % 16 == 0 for side in self.size)
        expect(sides, "data.size", "[H, W], each a multiple of 16 from 64 on", self.size)
        expect(0.0 < self.labelled <= 1.0, "data.labelled", "a value in (0, 1]", self.labelled)
        part = self.labelled_in_batch
        expect(0.0 <= part <= 1.0, "data.labelled_in_batch", "a value in [0, 1]", part)
        balance = self.class_balance
        expect(0.0 <= balance <= 1.0, "data.class_balance", "a value in [0, 1]", balance)


@dataclass(frozen=True)
class NetworkShape:
    """What the network is made of; see `model.network.NetworkConfig`.

    Attributes:
        width, fine_width, audio_width: of the latents: p3 to p5, p2, and the sound's.
        imagenet: whether encoders of images start from ImageNet weights.
        fusion: "gated", or "sum", the plain one that knows no patterns.
        bottleneck: hidden width of CyIN's information bottleneck; 0 = none.
        translation: how a missing latent is filled in, "mean", "sum" or "poe"; "none" = it is not.
        shared: whether latents are split into a shared and a unique half (Robult).
        probabilistic: whether the fused latent is a distribution (DMRNet).
        auxiliary: whether there is a second decoder, for hard combinations (DMRNet, MMANet).
    """

    width: int = 64
    fine_width: int = 64
    audio_width: int = 128
    imagenet: bool = True
    fusion: str = "gated"
    bottleneck: int = 0
    translation: str = "none"
    shared: bool = False
    probabilistic: bool = False
    auxiliary: bool = False

    def __post_init__(self) -> None:
        expect(self.fusion in FUSIONS, "network.fusion", f"one of {FUSIONS}", self.fusion)
        rules = ("none", *RULES)
        expect(self.translation in rules, "network.translation", f"one of {rules}", self.translation)
        expect(self.bottleneck >= 0, "network.bottleneck", "a width >= 0", self.bottleneck)
        for name in ("width", "fine_width", "audio_width"):
            value = getattr(self, name)
            expect(value >= 8 and value % 8 == 0, f"network.{name}", "a positive multiple of 8", value)


@dataclass(frozen=True)
class AugmentationConfig:
    """How a training crop is made.

    Attributes:
        crop: (H, W) of the crops, multiples of 32, not both 32.
        scale: range of the zoom, log-uniform.
        around_object: probability that a crop contains the centre of an object instead of lying anywhere.
        flip: probability of mirroring left and right.
        brightness, contrast, saturation: largest relative change of the colours.
        darkness: probability of a dark, noisy colour picture.
        blank: probability of a colour picture in which hardly anything can be seen.
        blind: probability that one of several image sensors shows next to nothing (`blinding`).
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
    blind: float = 0.0
    thermal_offset: float = 0.0
    thermal_noise: float = 0.05
    depth_scale: float = 0.03
    depth_holes: int = 2
    audio_gain: float = 6.0
    audio_shift: bool = True

    def __post_init__(self) -> None:
        fits = all(side >= 32 and side % 32 == 0 for side in self.crop)
        expect(fits, "augmentation.crop", "[H, W], positive multiples of 32", self.crop)
        ordered = 0.0 < self.scale[0] <= self.scale[1]
        expect(ordered, "augmentation.scale", "[low, high] with 0 < low <= high", self.scale)
        for name in ("around_object", "flip", "darkness", "blank", "blind"):
            value = getattr(self, name)
            expect(0.0 <= value <= 1.0, f"augmentation.{name}", "a probability", value)
        for name in ("brightness", "contrast", "saturation", "depth_scale"):
            value = getattr(self, name)
            expect(0.0 <= value < 1.0, f"augmentation.{name}", "a value in [0, 1)", value)
        for name in ("thermal_offset", "thermal_noise", "depth_holes", "audio_gain"):
            expect(getattr(self, name) >= 0, f"augmentation.{name}", "a value >= 0", getattr(self, name))


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses of every pass under a pattern; see `losses`.

    Attributes:
        cross_entropy: of the label map's cross-entropy.
        dice: of the label map's Dice loss.
        detection_class: of the boxes' classes.
        detection_box: of the boxes' corners.
        detection_centre: of how central a cell is in its box.
        scene: of the scene classes.
        background_weight: weight of a background pixel in the cross-entropy, where any other has 1.
    """

    cross_entropy: float = 1.0
    dice: float = 1.0
    detection_class: float = 0.5
    detection_box: float = 0.5
    detection_centre: float = 0.25
    scene: float = 0.5
    background_weight: float = 1.0

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            expect(value >= 0, f"losses.{name}", "a value >= 0", value)


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
        shards: equal parts of a batch whose losses are formed apart, a multiple of the number of processes
            that train together; see `shards`.
        precision: of encoders and decoder in training, "float32" or "bfloat16"; see `acceleration`.
    """

    epochs: int = 36
    batch: int = 8
    learning_rate: float = 1e-3
    backbone_scale: float = 0.5
    weight_decay: float = 0.02
    warmup: float = 0.05
    gradient_norm: float = 5.0
    average: float = 0.995
    shards: int = 1
    precision: str = "float32"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch"):
            expect(getattr(self, name) >= 1, f"optimiser.{name}", "a positive count", getattr(self, name))
        for name in ("learning_rate", "gradient_norm"):
            expect(getattr(self, name) > 0, f"optimiser.{name}", "a value > 0", getattr(self, name))
        for name in ("backbone_scale", "weight_decay"):
            expect(getattr(self, name) >= 0, f"optimiser.{name}", "a value >= 0", getattr(self, name))
        for name in ("warmup", "average"):
            expect(0 <= getattr(self, name) < 1, f"optimiser.{name}", "in [0, 1)", getattr(self, name))
        whole = self.shards >= 1 and self.batch % self.shards == 0
        expect(whole, "optimiser.shards", f"a positive divisor of the batch of {self.batch}", self.shards)
        kinds = ("float32", "bfloat16")
        expect(self.precision in kinds, "optimiser.precision", f"one of {kinds}", self.precision)


@dataclass(frozen=True)
class ValidationConfig:
    """When and on how much the run is validated.

    Attributes:
        every: epochs from one validation to the next.
        first: epoch of the first one; the last epoch always has one.
        limit: samples with label maps, evenly spread over the split; 0 = all.
        patterns: whose mean chooses the best weights: "all", or "full" for a network that is trained for
            nothing else.
    """

    every: int = 4
    first: int = 1
    limit: int = 0
    patterns: str = "all"

    def __post_init__(self) -> None:
        expect(self.patterns in ("all", "full"), "validation.patterns", "'all' or 'full'", self.patterns)
        expect(self.every >= 1, "validation.every", "a positive count", self.every)
        expect(self.first >= 1, "validation.first", "a positive count", self.first)
        expect(self.limit >= 0, "validation.limit", "a count", self.limit)


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
    methods: MethodConfig = field(default_factory=MethodConfig)
    stages: tuple[StageConfig, ...] = (StageConfig(),)
    adapters: AdaptationConfig = field(default_factory=AdaptationConfig)
    losses: LossConfig = field(default_factory=LossConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)

    def __post_init__(self) -> None:
        total = sum(stage.share for stage in self.stages)
        expect(abs(total - 1.0) < 1e-6, "stages", "shares that add up to 1", total)
        crop = self.augmentation.crop
        # A norm at stride 32 needs two cells, and one frame may be all of a batch that has the sensor.
        expect(crop != (32, 32), "augmentation.crop", "more than one cell of [32, 32]", crop)
        ends = boundaries(self.stages, self.optimiser.epochs)
        for stage, begin, end in zip(self.stages, (0, *ends), ends, strict=False):
            least = f"a share that is an epoch or more of {self.optimiser.epochs}"
            expect(end > begin, f"stages.{stage.name}.share", least, stage.share)
        network, methods = self.network, self.methods
        for key, weight, there, what in (
            ("methods.gamma", methods.gamma, network.translation != "none", "network.translation"),
            ("methods.swap", methods.swap, network.translation != "none", "network.translation"),
            ("methods.unimodal", methods.unimodal, network.bottleneck > 0, "network.bottleneck"),
            ("methods.contrast", methods.contrast, network.shared, "network.shared"),
            ("methods.reconstruction", methods.reconstruction, network.shared, "network.shared"),
            ("methods.alpha", methods.alpha, network.probabilistic, "network.probabilistic"),
            ("methods.hard", methods.hard, network.probabilistic and network.auxiliary,
             "network.probabilistic and network.auxiliary"),
            ("methods.weakest", methods.weakest, network.auxiliary, "network.auxiliary"),
            *((f"methods.{name}", getattr(methods, name), self.patterns.dropout_weight > 0,
               "patterns.dropout_weight") for name in ("hard", "weakest", "swap")),
        ):  # fmt: skip
            expect(weight == 0 or there, key, f"0 without {what}", weight)

    @classmethod
    def load(cls, path: Path) -> TrainingConfig:
        """Read a YAML file.

        Raises:
            ConfigError: no such file, no YAML, an unknown key, a key twice or a value that is not allowed.
        """
        content = read_yaml(path)
        try:
            return read_section(cls, {} if content is None else content, "")
        except ConfigError as error:
            msg = f"{path}: {error}"
            raise ConfigError(msg) from None

    def to_text(self) -> str:
        """The configuration as YAML, every value spelt out."""
        return yaml.safe_dump(plain(dataclasses.asdict(self)), sort_keys=False)

    @property
    def sha256(self) -> str:
        """Identity: a hash of what differs from the defaults, so that a new key changes no old one."""
        text = yaml.safe_dump(plain(different(self, TrainingConfig())), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def base_sha256(self) -> str:
        """Identity of what is trained before the adapters, which come after it on frozen weights."""
        return dataclasses.replace(self, adapters=AdaptationConfig()).sha256
