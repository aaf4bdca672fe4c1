"""Which part of a run an epoch belongs to, and what counts in it.

    epochs of stage i    from round(E (s_1 + .. + s_(i-1))) to round(E (s_1 + .. + s_i)) - 1, of E in all
    ramp [a, b]          a + (b - a) k / (n - 1) in epoch k = 0 .. n - 1 of a stage of n; b where n = 1

A stage is nothing but factors (`StageConfig`): with one stage of factors 1 the run is a plain one. The
recipes of this package (`joint` of `config/study/mm5.yaml`) have

    S1 with S2a  space    random and full patterns, bottleneck, reconstruction, gamma rising, no sampling
    S2b          robust   sampling, swap, contrast, alpha rising; then hard combinations
    S2c          settle   the same with the sampling going down
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from robust_perception.training.method_config import MethodConfig, PatternConfig, StageConfig
from robust_perception.training.sections import expect


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


def check_focus(stages: Sequence[StageConfig], parameters: Iterable[str]) -> None:
    """Refuse a focus that no parameter's name begins with.

    Raises:
        ConfigError: names the stage, and what there is.
    """
    names = list(parameters)
    for stage in stages:
        for beginning in stage.focus:
            there = any(name.startswith(beginning) for name in names)
            known = sorted({name.partition(".")[0] for name in names})
            expected = f"the beginning of a parameter's name, of which there are {known} and what is in them"
            expect(there, f"stages.{stage.name}.focus", expected, beginning)


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
    steps = ends[index] - first - 1
    done = (epoch - first) / steps if steps else 1.0

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
