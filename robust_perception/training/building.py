"""The network a configuration asks for, and whether the data can serve it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from robust_perception.datasets import DatasetError, FolderDataset
from robust_perception.model.network import Network
from robust_perception.model.network_config import NetworkConfig
from robust_perception.model.translation import pair_name, pairs_of
from robust_perception.training.config import TrainingConfig, ValidationConfig
from robust_perception.training.coobservation import observed_pairs
from robust_perception.training.errors import ConfigError
from robust_perception.training.mixture import MixedDataset
from robust_perception.training.statistics import measure
from robust_perception.training.validation import measured_frames
from robust_perception.vocabulary import MODALITIES, Modality, Pattern


def modalities_of(config: TrainingConfig, dataset: FolderDataset | MixedDataset) -> tuple[Modality, ...]:
    """The sensors of the network: those the configuration names, else all of the data.

    Raises:
        ConfigError: the data lacks one that the configuration names.
    """
    wanted = tuple(Modality(name) for name in config.data.modalities) or dataset.modalities
    missing = [m.value for m in wanted if m not in dataset.modalities]
    if missing:
        there = [m.value for m in dataset.modalities]
        place = MixedDataset.of(dataset).place
        msg = f"data.modalities: expected sensors that {place} has ({there}), got {missing} too"
        raise ConfigError(msg)
    return tuple(m for m in MODALITIES if m in wanted)


def build_network(config: TrainingConfig, dataset: FolderDataset | MixedDataset) -> Network:
    """The network of a configuration for a data set, on its first weights.

    Raises:
        ConfigError: the data lacks a modality that the configuration names.
    """
    modalities = modalities_of(config, dataset)
    values: dict[str, Any] = {}
    for modality in (Modality.DEPTH, Modality.THERMAL):
        found = measure(dataset, modality) if modality in modalities else None
        if found is not None:
            values |= {f"{modality.value}_mean": found[0], f"{modality.value}_std": found[1]}
    observed = observed_pairs(dataset, modalities)
    unseen = [pair for pair in pairs_of(modalities) if pair not in observed]
    if unseen:
        values["seen"] = tuple(pair_name(pair) for pair in pairs_of(modalities) if pair in observed)
    network = Network(
        NetworkConfig(
            modalities=modalities,
            class_names=dataset.class_names,
            scene_names=dataset.scene_names,
            width=config.network.width,
            fine_width=config.network.fine_width,
            audio_width=config.network.audio_width,
            fusion=config.network.fusion,
            bottleneck=config.network.bottleneck,
            translation=config.network.translation,
            shared=config.network.shared,
            probabilistic=config.network.probabilistic,
            auxiliary=config.network.auxiliary,
            **values,
        )
    )
    if config.network.imagenet:
        network.load_imagenet()
    return network


def check_shards(samples: int, shards: int) -> None:
    """DatasetError when a training split of so many samples cannot give every shard of a batch one."""
    if samples < shards:
        msg = f"training data: expected a sample at least for each of the {shards} shards of a batch "
        msg += f"(optimiser.shards), got {samples}"
        raise DatasetError(msg)


def check_splits(splits: Mapping[str, MixedDataset], modalities: Sequence[Modality]) -> None:
    """Refuse splits that would waste the run: better now than after its last epoch.

    Args:
        splits: `train` and `val`.
        modalities: of the network.

    Raises:
        DatasetError: a split has no label map, or `val` no frame with every sensor, which the export needs;
            with several data folders, a sensor that is in none of their validation frames.
    """
    for dataset in splits.values():
        if not dataset.has_labels:
            places = " and ".join(str(part.folder / "label") for part in dataset.parts)
            msg = f"{places}: expected label maps to learn from and to validate on, got none"
            raise DatasetError(msg)
    val = splits["val"]
    if len(val.parts) > 1:
        unseen = [m.value for m in modalities if m not in val.modalities]
        if unseen:
            msg = f"{val.place}: expected frames of every sensor of the training data, got none of {unseen}"
            raise DatasetError(msg)
    elif not any(all(val.path(m, name) for m in modalities) for name in val.names):
        names = [m.value for m in modalities]
        msg = (
            f"{val.place}: expected a frame with all of {names}, got none; add one, or name fewer sensors "
            "in data.modalities"
        )
        raise DatasetError(msg)


def check_validation(config: ValidationConfig, dataset: MixedDataset, patterns: Sequence[Pattern]) -> None:
    """Refuse a validation that could measure none of its patterns: there would be no best weights.

    Args:
        config: of the validation.
        dataset: the split `val`.
        patterns: those that choose the best weights.

    Raises:
        ConfigError: no frame that is looked at has all sensors of one of the patterns.
    """
    names = [dataset.names[index] for index in measured_frames(dataset, config.limit)]
    if any(all(dataset.path(m, name) for m in pattern) for pattern in patterns for name in names):
        return
    wanted = str(patterns[0]) if len(patterns) == 1 else "one pattern"
    msg = (
        f"validation.patterns {config.patterns}: expected a frame with all sensors of {wanted} in "
        f"{dataset.place}, got none among the {len(names)} with label maps that validation.limit "
        f"{config.limit} looks at; add one, or choose other patterns"
    )
    raise ConfigError(msg)
