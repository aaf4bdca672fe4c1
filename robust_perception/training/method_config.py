"""Configuration of what makes a network robust: passes, methods, stages, adapters; sections of `config`."""

from __future__ import annotations

from dataclasses import dataclass

from robust_perception.model.adapters import KINDS
from robust_perception.training.sections import expect


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
            expect(getattr(self, name) >= 0, f"patterns.{name}", "a value >= 0", getattr(self, name))
        expect(self.dropout_weight + self.full_weight > 0, "patterns", "one pass with a weight", self)
        both = self.distillation == 0 or (self.dropout_weight > 0 and self.full_weight > 0)
        expect(both, "patterns.distillation", "0 unless both passes have a weight", self.distillation)


@dataclass(frozen=True)
class MethodConfig:
    """Weights of what the four papers and MMANet add to the task loss; 0 = off.

    Attributes:
        beta: of CyIN's bottleneck: its fit weighs 1, its compression 1 / beta.
        unimodal: of the label-level bottleneck.
        gamma: of the translators' losses.
        swap: probability that a latent which is there is replaced by its translation.
        contrast: of Robult's contrast.
        reconstruction: of Robult's latent reconstruction.
        temperature: of the contrast.
        regions: largest number of regions of a batch that are compared.
        alpha: of DMRNet's KL.
        hard: of DMRNet's task loss on hard combinations: cross-entropy and Dice of the second decoder, one
            to one, whatever `losses` weighs them with in the other passes.
        hard_share: part of all patterns that counts as hard.
        window: epochs over which the variance of patterns is mined before the next choice of hard ones.
        relation: of MMANet's distillation of relations; needs a teacher (`--teacher`).
        weakest: of MMANet's task loss on the weakest combination; the same loss as of `hard`.
    """

    beta: float = 16.0
    unimodal: float = 0.0
    gamma: float = 0.0
    swap: float = 0.0
    contrast: float = 0.0
    reconstruction: float = 0.0
    temperature: float = 0.1
    regions: int = 256
    alpha: float = 0.0
    hard: float = 0.0
    hard_share: float = 0.25
    window: int = 3
    relation: float = 0.0
    weakest: float = 0.0

    def __post_init__(self) -> None:
        for name in (
            "unimodal",
            "gamma",
            "contrast",
            "reconstruction",
            "alpha",
            "hard",
            "relation",
            "weakest",
        ):
            expect(getattr(self, name) >= 0, f"methods.{name}", "a value >= 0", getattr(self, name))
        for name in ("beta", "temperature"):
            expect(getattr(self, name) > 0, f"methods.{name}", "a value > 0", getattr(self, name))
        expect(0 <= self.swap <= 1, "methods.swap", "a probability", self.swap)
        expect(0 < self.hard_share < 1, "methods.hard_share", "in (0, 1)", self.hard_share)
        expect(self.regions >= 2, "methods.regions", "at least 2", self.regions)
        expect(self.window >= 1, "methods.window", "at least one epoch", self.window)
        one = self.hard == 0 or self.weakest == 0
        expect(one, "methods.weakest", "0 beside methods.hard: there is one second decoder", self.weakest)


@dataclass(frozen=True)
class StageConfig:
    """A part of the run; every factor multiplies the weight of the same name in `methods` or `patterns`.

    Attributes:
        name: for messages; `log.csv` has the stage's number, from 0.
        share: of the epochs, one at least; the shares of all stages add up to 1.
        random: factor of the loss under random patterns; 0 = full patterns alone, with weight 1 whatever
            `patterns.full_weight` is.
        gamma, alpha: factors in the stage's first and last epoch, with a straight line between; a stage of
            one epoch has the last.
        noise: scale of DMRNet's sampling, likewise; 0 = the mean.
        swap, contrast: factors.
        hard: factor, of `weakest` too.
        focus: beginnings of the names of modules that learn at the full rate; empty = all.
        rest: factor of the learning rate of all others.
    """

    name: str = "all"
    share: float = 1.0
    random: float = 1.0
    gamma: tuple[float, float] = (1.0, 1.0)
    alpha: tuple[float, float] = (1.0, 1.0)
    noise: tuple[float, float] = (1.0, 1.0)
    swap: float = 1.0
    contrast: float = 1.0
    hard: float = 1.0
    focus: tuple[str, ...] = ()
    rest: float = 1.0

    def __post_init__(self) -> None:
        expect(0 < self.share <= 1, f"stages.{self.name}.share", "in (0, 1]", self.share)
        for name in ("random", "swap", "contrast", "hard", "rest"):
            expect(
                getattr(self, name) >= 0, f"stages.{self.name}.{name}", "a value >= 0", getattr(self, name)
            )
        for name in ("gamma", "alpha", "noise"):
            fits = all(value >= 0 for value in getattr(self, name))
            expect(fits, f"stages.{self.name}.{name}", "[begin, end], each >= 0", getattr(self, name))


@dataclass(frozen=True)
class AdaptationConfig:
    """Stage S3: adapters a pattern on the frozen network; see `adaptation` and `model.adapters`.

    Attributes:
        kind: "lora", "ssf", "bitfit", or "none" = no such stage.
        budget: largest cost of a pattern as a share of the network's parameters.
        rank: largest rank of "lora".
        places: beginnings of the names of modules that are adapted. With "fusion" alone a sensor's latents
            do not depend on the pattern: when one is lost, those of the others are of use at once.
        finest_stride: of the layers that are adapted, in pixels of the image; 1 = all. Fine maps are where
            an adapter costs time.
        wide: whether the wide layers inside a backbone's blocks are adapted too.
        epochs: of each pattern.
        learning_rate: at its peak.
        distillation: weight of the divergence from the frozen network's answer to all that a sample has;
            0 = off.
    """

    kind: str = "none"
    budget: float = 0.007
    rank: int = 8
    places: tuple[str, ...] = ("encoders", "representers", "fusion")
    finest_stride: int = 16
    wide: bool = False
    epochs: int = 3
    learning_rate: float = 5e-3
    distillation: float = 0.0

    def __post_init__(self) -> None:
        kinds = ("none", *KINDS)
        expect(self.kind in kinds, "adapters.kind", f"one of {kinds}", self.kind)
        expect(0 < self.budget <= 1, "adapters.budget", "in (0, 1]", self.budget)
        for name in ("rank", "epochs", "finest_stride"):
            expect(getattr(self, name) >= 1, f"adapters.{name}", "a positive count", getattr(self, name))
        expect(self.learning_rate > 0, "adapters.learning_rate", "a value > 0", self.learning_rate)
        expect(self.distillation >= 0, "adapters.distillation", "a value >= 0", self.distillation)
        expect(bool(self.places), "adapters.places", "at least one", self.places)
