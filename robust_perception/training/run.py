"""What a run is made of, and the files of its folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from robust_perception.training.config import TrainingConfig

LAST, BEST, CONFIG = "last.safetensors", "best.safetensors", "config.yaml"


@dataclass(frozen=True)
class Run:
    """What a run is made of.

    Attributes:
        config: every choice.
        data: the data folders, each with the splits `train` and `val`; several train together.
        out: the folder the run writes into.
        seed: of weights, order, crops and patterns.
        teacher: weights of a network trained on complete data, for `methods.relation`; see `teacher`.
        start: weights to begin with instead of the first ones; see `warm_start`.
    """

    config: TrainingConfig
    data: tuple[Path, ...]
    out: Path
    seed: int = 0
    teacher: Path | None = None
    start: Path | None = None
