"""What several commands read and do alike with their command lines; each says what it expected."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from robust_perception.units import DEPTH_SCALE, THERMAL_OFFSET, THERMAL_SCALE
from robust_perception.vocabulary import MODALITIES, Modality, Pattern

Number = TypeVar("Number", int, float)

MAX_DOMAIN = 101
"""Highest ROS domain whose ports lie below those that Linux gives to other programs."""

SENSORS = ", ".join(m.value for m in MODALITIES)
"""Their names, for help and messages."""


def patterns(text: str) -> list[Pattern]:
    """Read `rgb+thermal,depth`."""
    try:
        return [Pattern.parse(part) for part in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def positive(text: str) -> int:
    """Read a whole number above zero."""
    return _read(text, int, lambda value: value > 0, "a whole number above 0")


def count(text: str) -> int:
    """Read a whole number from zero on."""
    return _read(text, int, lambda value: value >= 0, "a whole number from 0 on")


def seed(text: str) -> int:
    """Read a seed, a whole number from zero on."""
    return _read(text, int, lambda value: value >= 0, "a seed, a whole number from 0 on")


def number(text: str) -> float:
    """Read a number."""
    return _read(text, float, math.isfinite, "a number")


def number_from_zero(text: str) -> float:
    """Read a number from zero on."""
    return _read(text, float, lambda value: 0 <= value < math.inf, "a number from 0 on")


def positive_number(text: str) -> float:
    """Read a number above zero."""
    return _read(text, float, lambda value: 0 < value < math.inf, "a number above 0")


def rate(text: str) -> float:
    """Read frames a second, above 0 and up to 1000."""
    expected = "a rate above 0 and up to 1000 frames a second"
    return _read(text, float, lambda value: 0 < value <= 1000, expected)


def domain(text: str) -> int:
    """Read a ROS domain."""
    expected = f"a ROS domain from 0 to {MAX_DOMAIN}"
    return _read(text, int, lambda value: 0 <= value <= MAX_DOMAIN, expected)


def picture_size(text: str) -> tuple[int, int]:
    """Read `320x240`, width and height."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) > 0 and int(height) > 0):
        msg = f"expected WIDTHxHEIGHT in pixels, e.g. 320x240, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return int(width), int(height)


def share(text: str) -> tuple[str, float]:
    """Read `train=0.8`, or `train` for all there is."""
    name, _, part = text.partition("=")
    if not name.isidentifier():
        msg = f"expected SPLIT or SPLIT=SHARE with a plain name, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return name, positive_number(part) if part else 1.0


def sensor(text: str) -> Modality:
    """Read the name of a sensor."""
    try:
        return Modality(text)
    except ValueError:
        msg = f"expected a sensor out of {SENSORS}, got {text!r}"
        raise argparse.ArgumentTypeError(msg) from None


def sensor_topic(text: str) -> tuple[Modality, str]:
    """Read `rgb=/camera/color/image_raw`."""
    name, _, topic = text.partition("=")
    if name not in {m.value for m in MODALITIES} or not topic.startswith("/"):
        msg = f"expected SENSOR=/TOPIC with a sensor out of {SENSORS}, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return Modality(name), topic


def add_cache_option(parser: argparse.ArgumentParser) -> None:
    """Add where TensorRT's plans are."""
    parser.add_argument(
        "--cache", type=Path, help="folder of TensorRT plans (default: the user's cache folder)"
    )


def add_domain_option(parser: argparse.ArgumentParser) -> None:
    """Add in which ROS domain a command runs a graph of its own."""
    parser.add_argument(
        "--domain",
        type=domain,
        default=os.getpid() % 60 + 41,
        help=f"ROS domain of the graph, 0 to {MAX_DOMAIN} (default: one that hardly anybody uses)",
    )


BAG_OPTIONS = (
    "topic",
    "seconds",
    "depth_scale",
    "thermal_scale",
    "thermal_offset",
    "audio_sample_rate",
    "audio_channels",
    "audio_sample_format",
    "no_header_age",
)
"""What `add_bag_options` adds."""


def add_bag_options(group: argparse._ActionsContainer) -> None:
    """Add how a bag is read: topics of the sensors, what their values mean, how much of it."""
    group.add_argument(
        "--topic",
        type=sensor_topic,
        action="append",
        default=[],
        metavar="SENSOR=TOPIC",
        help="where a sensor is, e.g. rgb=/camera/color/image_raw (default: /rgb/image, .., /audio)",
    )
    group.add_argument("--seconds", type=positive_number, help="only the first seconds of the bag")
    group.add_argument(
        "--depth-scale",
        type=positive_number,
        default=DEPTH_SCALE,
        help="metres per count (default: %(default)s)",
    )
    group.add_argument(
        "--thermal-scale",
        type=positive_number,
        default=THERMAL_SCALE,
        help="kelvin per count (default: %(default)s)",
    )
    group.add_argument(
        "--thermal-offset",
        type=number,
        default=THERMAL_OFFSET,
        help="kelvin of count 0 (default: %(default)s)",
    )
    group.add_argument(
        "--audio-sample-rate",
        type=positive,
        metavar="HZ",
        help="samples of sound a second (default: as the bag's AudioInfo says)",
    )
    group.add_argument(
        "--audio-channels",
        type=positive,
        metavar="COUNT",
        help="interleaved channels, beside --audio-sample-rate (default: 1)",
    )
    group.add_argument(
        "--audio-sample-format",
        metavar="FORMAT",
        help="type of a sample, e.g. F32LE, beside --audio-sample-rate (default: S16LE)",
    )
    group.add_argument(
        "--no-header-age",
        action="store_true",
        help="take stamps of another clock than the recorder's: none is compared with the time of reception",
    )


def refuse_idle(
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None,
    useful: Mapping[tuple[str, ...], tuple[str, ...]],
) -> None:
    """End with the parser's error where an option is named that nothing would come of.

    Args:
        parser: the command's.
        argv: a command line that it reads.
        useful: options -> those of which one must be beside them; by `dest`.
    """
    # Read once more without defaults: what is there then was named.
    blank = argparse.Namespace(**dict.fromkeys(vars(parser.parse_args(argv))))
    named = {name for name, value in vars(parser.parse_args(argv, blank)).items() if value is not None}
    for options, beside in useful.items():
        for option in options:
            if option in named and not named.intersection(beside):
                one_of = " or ".join(f"--{name}" for name in beside)
                parser.error(f"--{option.replace('_', '-')}: expected {one_of} beside it, got none")


def make_way(*paths: Path | None) -> None:
    """Make the folders of files that a command will write, and find out now, not at its end, what forbids it.

    Raises:
        OSError: there is a folder in a file's place, or nothing may be written there.
    """
    for path in paths:
        if path is None:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            msg = f"{path}: expected a file to write, got a folder; name a file in it"
            raise IsADirectoryError(msg)
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            msg = f"{path}: expected a file to write, got one that may not be written; name another"
            raise PermissionError(msg)


def _read(text: str, kind: Callable[[str], Number], fits: Callable[[Number], bool], expected: str) -> Number:
    with contextlib.suppress(ValueError):
        value = kind(text)
        if fits(value):
            return value
    msg = f"expected {expected}, got {text!r}"
    raise argparse.ArgumentTypeError(msg)
