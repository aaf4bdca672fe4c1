"""The network that a run learns relations from (`methods.relation`, see `model.relation`)."""

from __future__ import annotations

from robust_perception.model.network_config import NetworkConfig
from robust_perception.training.errors import ConfigError
from robust_perception.training.run import Run
from robust_perception.training.warm_start import Start


def open_teacher(run: Run, student: NetworkConfig) -> Start | None:
    """The run's teacher; None where its relations are not asked for.

    Args:
        run: names its weights.
        student: shape of the network that learns from it.

    Raises:
        ConfigError: a teacher is asked for and not named, or the other way round; it has other classes than
            the student, or a sensor that the student lacks.
        CheckpointError: its file cannot be read.
    """
    weight = run.config.methods.relation
    if bool(weight) != (run.teacher is not None):
        msg = f"methods.relation {weight}: expected a teacher exactly when > 0, got {run.teacher}; name its "
        msg += "weights with --teacher, or leave both out"
        raise ConfigError(msg)
    if run.teacher is None:
        return None
    teacher = Start.open(run.teacher)
    shape = teacher.network.config
    if shape.class_names != student.class_names:
        msg = f"{run.teacher}: expected a teacher of the data's classes {list(student.class_names)}, got one "
        msg += f"of {list(shape.class_names)}"
        raise ConfigError(msg)
    unknown = [m.value for m in shape.modalities if m not in student.modalities]
    if unknown:
        there = [m.value for m in student.modalities]
        msg = f"{run.teacher}: expected a teacher of this run's sensors ({there}), got one that needs "
        msg += f"{unknown} too"
        raise ConfigError(msg)
    return teacher
