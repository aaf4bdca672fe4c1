"""The network a configuration asks for, and whether the data can serve it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from robust_perception.datasets import DatasetError, FolderDataset
from robust_perception.model.network import Network
from robust_perception.model.network_config import NetworkConfig
from robust_perception.model.translation import pair_name, pairs_of
from robust_perception.training.config import TrainingConfig
from robust_perception.training.coobservation import observed_pairs
from robust_perception.training.errors import ConfigError
from robust_perception.training.mixture import MixedDataset
from robust_perception.training.statistics import measure
from robust_perception.vocabulary import MODALITIES, Modality

COARSEST = 32
"""Stride of the encoders' last maps, pixels."""


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


def check_shards(samples: int, config: TrainingConfig) -> None:
    """Refuse shards that no loss could be formed of.

    Args:
        samples: of the training split.
        config: of the run.

    Raises:
        DatasetError: there are fewer samples than shards of a batch.
        ConfigError: a shard is a single cell of the coarsest maps, which has no variance to be normalised by.
    """
    shards = config.optimiser.shards
    each = min(config.optimiser.batch, samples) // shards
    if each == 0:
        msg = f"training data: expected a sample at least for each of the {shards} shards of a batch "
        msg += f"(optimiser.shards), got {samples}"
        raise DatasetError(msg)
    if each == 1 and config.augmentation.crop == (COARSEST, COARSEST):
        msg = f"augmentation.crop: expected more than [{COARSEST}, {COARSEST}] where a shard has one sample "
        msg += f"(batch of {min(config.optimiser.batch, samples)}, {shards} shards): norms need two values"
        raise ConfigError(msg)


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
