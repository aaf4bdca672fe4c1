"""Begin a run with the weights of another: fine-tuning on data of one's own, or training that goes on.

Every tensor that both networks have under one name and in one shape is taken over. What only the new one has
(a sensor, a method's module) keeps its first values, and so do the layers that name classes when the classes
are others and the gates' priors when the image sensors are: a row or column of theirs would mean something
else. Standardisation of depth and thermal stays that of the new data, so that what an encoder sees keeps its
distribution.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robust_perception.model.network import Network
from robust_perception.training import graph_weights
from robust_perception.training.errors import CheckpointError

OF_CLASSES = (
    "fusion.segmentation.classify",
    "fusion.detection.predict",
    "auxiliary.decoder.classify",
    "auxiliary.unimodal",
)
OF_SCENES = ("fusion.scene", "auxiliary.unimodal.audio")
OF_SENSORS = tuple(f"fusion.levels.{level}.gate_prior" for level in range(4))
OF_DATA = ("encoders.depth.mean", "encoders.depth.std", "encoders.thermal.mean", "encoders.thermal.std")


@dataclass(frozen=True)
class Taken:
    """What a start took over.

    Attributes:
        tensors: number of tensors taken.
        anew: names of the others of the new network, in its order; those of the data are not counted.
    """

    tensors: int
    anew: tuple[str, ...]

    def __str__(self) -> str:
        if not self.anew:
            return f"all {self.tensors} tensors"
        parts = dict.fromkeys(".".join(name.split(".")[:2]) for name in self.anew)
        return f"{self.tensors} of {self.tensors + len(self.anew)} tensors; anew: {', '.join(parts)}"


@dataclass(frozen=True)
class Start:
    """Finished weights to begin with, or to learn from.

    Attributes:
        path: their file (`best.safetensors`), or a model's folder or name.
        network: what it holds.
        training: what the file remembers of its run.
    """

    path: Path
    network: Network
    training: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path) -> Start:
        """Read them as `graph_weights.load` does, which raises CheckpointError where they cannot be."""
        return cls(path, *graph_weights.load(path))

    def __str__(self) -> str:
        data, epoch, seed = (self.training.get(key, "?") for key in ("data", "epoch", "seed"))
        config = str(self.training.get("config_sha256", "?"))[:12]
        return f"{self.path.name} of {data}, epoch {epoch}, seed {seed}, configuration {config}"


def take_over(network: Network, start: Start) -> Taken:
    """Fill a new network with what fits of finished weights.

    Raises:
        CheckpointError: they know none of the network's sensors.
    """
    other = start.network
    left_out: tuple[str, ...] = OF_DATA
    if other.config.class_names != network.config.class_names:
        left_out += OF_CLASSES
    if other.config.scene_names != network.config.scene_names:
        left_out += OF_SCENES
    if other.config.image_modalities != network.config.image_modalities:
        left_out += OF_SENSORS
    theirs = other.state_dict()
    own = network.state_dict()
    taken = {
        name: theirs[name]
        for name, tensor in own.items()
        if name in theirs and theirs[name].shape == tensor.shape and not name.startswith(left_out)
    }
    if not any(name.startswith("encoders.") for name in taken):
        there = [m.value for m in other.config.modalities]
        wanted = [m.value for m in network.config.modalities]
        msg = f"{start.path}: expected weights for one of this run's sensors ({wanted}), got those of {there}"
        raise CheckpointError(msg)
    network.load_state_dict(taken, strict=False)
    return Taken(len(taken), tuple(n for n in own if n not in taken and not n.startswith(OF_DATA)))
