"""Values of command lines that several commands read alike; each says what it expected."""

from __future__ import annotations

import argparse
import math

from robust_perception.units import DEPTH_SCALE, THERMAL_OFFSET, THERMAL_SCALE
from robust_perception.vocabulary import MODALITIES, Modality, Pattern


def patterns(text: str) -> list[Pattern]:
    """Read `rgb+thermal,depth`."""
    try:
        return [Pattern.parse(part) for part in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def positive(text: str) -> int:
    """Read a whole number above zero."""
    return _whole(text, 1, "a positive number")


def count(text: str) -> int:
    """Read a whole number from zero on."""
    return _whole(text, 0, "a number from 0 on")


def rate(text: str) -> float:
    """Read frames a second, above 0 and up to 1000."""
    value = float(text)
    if not 0 < value <= 1000:
        msg = f"expected a rate above 0 and up to 1000 frames a second, got {text}"
        raise argparse.ArgumentTypeError(msg)
    return value


def positive_number(text: str) -> float:
    """Read a number above zero."""
    value = float(text)
    if not 0 < value < math.inf:
        msg = f"expected a number above 0, got {text}"
        raise argparse.ArgumentTypeError(msg)
    return value


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


def sensor_topic(text: str) -> tuple[Modality, str]:
    """Read `rgb=/camera/color/image_raw`."""
    name, _, topic = text.partition("=")
    known = [m.value for m in MODALITIES]
    if name not in known or not topic.startswith("/"):
        msg = f"expected SENSOR=/TOPIC with a sensor out of {', '.join(known)}, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return Modality(name), topic


def add_bag_options(group: argparse._ActionsContainer) -> None:
    """Add how a bag is read: topics of the sensors, what their counts mean, how much of it."""
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
        "--depth-scale", type=positive_number, default=DEPTH_SCALE, help="metres per count (%(default)s)"
    )
    group.add_argument(
        "--thermal-scale", type=positive_number, default=THERMAL_SCALE, help="kelvin per count (%(default)s)"
    )
    group.add_argument(
        "--thermal-offset", type=float, default=THERMAL_OFFSET, help="kelvin of count 0 (%(default)s)"
    )
    group.add_argument(
        "--no-header-age",
        action="store_true",
        help="take stamps of another clock than the recorder's: none is compared with the time of reception",
    )


def seed(text: str) -> int:
    """Read a seed, a whole number from zero on."""
    return _whole(text, 0, "a seed from 0 on")


def _whole(text: str, least: int, expected: str) -> int:
    value = int(text)
    if value < least:
        msg = f"expected {expected}, got {text}"
        raise argparse.ArgumentTypeError(msg)
    return value
