"""Whether the run in a folder is the one that shall go on.

A run is its configuration without the adapters, which are trained after it on frozen weights, its seed, what
its data looks like (number of samples, sensors, classes, measures of depth and thermal), the weights it began
with and its teacher. Its state remembers all of that. The weights it began with are needed no more once there
is a state, so they may be left out or gone; a teacher is needed in every step.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from robust_perception.model.network_config import NetworkConfig
from robust_perception.training import checkpoint
from robust_perception.training.checkpoint import Progress
from robust_perception.training.errors import CheckpointError
from robust_perception.training.run import CONFIG, LAST, Run
from robust_perception.training.warm_start import Start

MEASURED = 1e-6
"""Relative difference that measures of the same data may have from machine to machine."""


@dataclass(frozen=True)
class Origins:
    """What a run builds on beside its data, in words; None = nothing.

    Attributes:
        start: the weights it began with.
        teacher: the network it learns relations from.
    """

    start: str | None = None
    teacher: str | None = None

    @classmethod
    def of(cls, start: Start | None, teacher: Start | None) -> Origins:
        """Of weights that were read."""
        return cls(None if start is None else str(start), None if teacher is None else str(teacher))

    def known(self) -> dict[str, str]:
        """Those that there are."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def begin(
    run: Run, resume: bool, steps: int, network: NetworkConfig, origins: Origins
) -> tuple[Progress, Origins]:
    """A new run's progress and origins, or those of the folder's last checkpoint.

    Args:
        run: what to do; its folder is made.
        resume: whether there may be a checkpoint.
        steps: of an epoch.
        network: that the configuration and the data ask for.
        origins: of a new run; of one that goes on, its teacher alone counts.

    Raises:
        CheckpointError: there is a checkpoint that may not be, or one of another run.
    """
    last = run.out / LAST
    progress = Progress(run.config.base_sha256, run.seed)
    if last.is_file():
        if not resume:
            msg = f"{run.out}: expected a folder without a run, got {LAST}; add --resume or choose another "
            msg += "--out"
            raise CheckpointError(msg)
        progress = checkpoint.read_progress(last)
        _check(last, run, steps, network, progress)
        origins = _origins(last, run, origins.teacher)
    run.out.mkdir(parents=True, exist_ok=True)
    (run.out / CONFIG).write_text(run.config.to_text(), encoding="utf-8")
    return progress, origins


def _check(last: Path, run: Run, steps: int, network: NetworkConfig, progress: Progress) -> None:
    """Refuse a state of another configuration, seed or data."""
    config = progress.config_sha256
    if config == run.config.sha256:  # what older states have
        config = run.config.base_sha256
    _expect(last, "configuration", run.config.base_sha256, config)
    _expect(last, "seed", run.seed, progress.seed)
    _expect(last, "number of steps", progress.epoch * steps, progress.step)
    theirs = checkpoint.read_network(last)
    for item in fields(NetworkConfig):
        expected, got = getattr(network, item.name), getattr(theirs, item.name)
        close = isinstance(expected, float) and math.isclose(expected, got, rel_tol=MEASURED)
        _expect(last, f"data's {item.name}", expected, expected if close else got)


def _origins(last: Path, run: Run, teacher: str | None) -> Origins:
    """What the run of a state builds on, where that is not other than asked for."""
    plain = checkpoint.read_origins(last)
    if plain is None:  # an older state does not know
        return Origins(None if run.start is None else str(Start.open(run.start)), teacher)
    found = Origins(**plain)
    _expect(last, "teacher", teacher, found.teacher)
    if run.start is not None:
        _expect(last, "start", _described(run.start, found.start), found.start)
    return found


def _described(path: Path, known: str | None) -> str | None:
    """Weights in words; those that are gone are taken for the ones known."""
    try:
        return str(Start.open(path))
    except CheckpointError:
        return str(path) if known is None else known


def _expect(last: Path, name: str, expected: object, got: object) -> None:
    if expected != got:
        msg = f"{last}: expected a run of this {name} ({expected}), got {got}; give it another --out"
        raise CheckpointError(msg)
