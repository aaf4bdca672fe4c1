"""Options of the commands that measure a model."""

from __future__ import annotations

import argparse

from robust_perception import arguments
from robust_perception.bags.errors import BagError
from robust_perception.engine.choice import CHOICES, PRECISION_CHOICES
from robust_perception.evaluation.bag_source import BagConfig
from robust_perception.runtime.audio import AudioFormat
from robust_perception.runtime.decoders import ImageUnits
from robust_perception.runtime.errors import EncodingError


def add_classes_option(parser: argparse.ArgumentParser) -> None:
    """Add which labels of the data are meant."""
    parser.add_argument(
        "--classes",
        choices=("auto", "fine", "coarse"),
        default="auto",
        help="labels to use; auto = those of the model (default: %(default)s)",
    )


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Add what runs the model, and how."""
    parser.add_argument(
        "--backend", choices=CHOICES, default="auto", help="what runs the model (default: %(default)s)"
    )
    parser.add_argument(
        "--precision",
        choices=PRECISION_CHOICES,
        default="auto",
        help="arithmetic the model runs in (default: %(default)s)",
    )
    arguments.add_cache_option(parser)
    parser.add_argument(
        "--threads",
        type=arguments.positive,
        help="most processor threads that work at a time (default: one a core)",
    )


def bag_config(given: argparse.Namespace) -> BagConfig:
    """How a command line with `arguments.add_bag_options` wants bags to be read.

    Raises:
        BagError: it names a sensor's topic twice, or its words about sound make no format.
    """
    sensors = [sensor for sensor, _ in given.topic]
    if len(set(sensors)) < len(sensors):
        msg = f"--topic: expected every sensor once, got {' '.join(f'{s}={name}' for s, name in given.topic)}"
        raise BagError(msg)
    units = ImageUnits(given.depth_scale, given.thermal_scale, given.thermal_offset)
    audio = _audio_format(given)
    return BagConfig(dict(given.topic), units, given.seconds, not given.no_header_age, audio)


def _audio_format(given: argparse.Namespace) -> AudioFormat | None:
    """The format of sound; None = AudioInfo says."""
    told = {"channels": given.audio_channels, "sample_format": given.audio_sample_format}
    told = {name: value for name, value in told.items() if value is not None}
    if given.audio_sample_rate is None:
        for name in told:
            msg = f"--audio-{name.replace('_', '-')}: expected --audio-sample-rate beside it, got none"
            raise BagError(msg)
        return None
    try:
        return AudioFormat(given.audio_sample_rate, **told)
    except EncodingError as error:
        msg = f"--audio-sample-rate, --audio-channels, --audio-sample-format: {error}"
        raise BagError(msg) from None
