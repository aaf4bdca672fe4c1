"""Which part of a run an epoch belongs to, and what counts in it.

    S1   informative space   full patterns, bottleneck and reconstruction, no translation
    S2a  translators         gamma rises from 0, everything else learns slowly
    S2b  robust              random patterns beside the full one, sampling, contrast, then hard combinations
    S2c  settle              the same with the sampling scale going down

A stage is nothing but factors (`StageConfig`): with one stage of factors 1 the run is a plain one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from robust_perception.training.method_config import MethodConfig, PatternConfig, StageConfig


@dataclass(frozen=True)
class Moment:
    """What counts in one epoch.

    Attributes:
        index: of the stage it belongs to.
        methods: weights of the methods, the stage's factors applied.
        patterns: weights of the passes, likewise.
        noise: scale of the sampling of the fused latent.
    """

    index: int
    methods: MethodConfig
    patterns: PatternConfig
    noise: float


def learning_scale(stage: StageConfig, parameter: str) -> float:
    """Factor of the learning rate of a parameter of this name."""
    if not stage.focus or parameter.startswith(stage.focus):
        return 1.0
    return stage.rest


def boundaries(stages: Sequence[StageConfig], epochs: int) -> list[int]:
    """First epoch after each stage; the last is `epochs`."""
    ends, share = [], 0.0
    for stage in stages:
        share += stage.share
        ends.append(round(share * epochs))
    return ends


def moment(
    stages: Sequence[StageConfig], epochs: int, epoch: int, methods: MethodConfig, patterns: PatternConfig
) -> Moment:
    """What counts in `epoch`, counted from 0.

    Args:
        stages: of the run, in order.
        epochs: of the run.
        epoch: this one.
        methods: weights of the run.
        patterns: weights of the run.
    """
    ends = boundaries(stages, epochs)
    index = next(i for i, end in enumerate(ends) if epoch < end)
    stage, first = stages[index], ends[index - 1] if index else 0
    done = (epoch - first) / max(1, ends[index] - first - 1)

    def ramp(values: tuple[float, float]) -> float:
        return values[0] + (values[1] - values[0]) * done

    if stage.random:
        passes = dataclasses.replace(patterns, dropout_weight=patterns.dropout_weight * stage.random)
    else:
        passes = PatternConfig(dropout_weight=0.0, full_weight=1.0)
    weights = dataclasses.replace(
        methods,
        gamma=methods.gamma * ramp(stage.gamma),
        alpha=methods.alpha * ramp(stage.alpha),
        swap=methods.swap * stage.swap,
        contrast=methods.contrast * stage.contrast,
        hard=methods.hard * stage.hard,
        weakest=methods.weakest * stage.hard,
    )
    return Moment(index, weights, passes, ramp(stage.noise))
