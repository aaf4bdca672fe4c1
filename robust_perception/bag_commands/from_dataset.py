"""`bag from-dataset`: a split of a data folder as a bag."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from robust_perception import arguments
from robust_perception.bags.dataset import write_dataset
from robust_perception.bags.layouts import open_folder, times_of
from robust_perception.bags.writer import STORAGES
from robust_perception.vocabulary import MODALITIES

HELP = "write a split of a data folder as a bag"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "--data",
        required=True,
        type=Path,
        help="folder with <split>/{rgb,depth,thermal,audio}, or without splits",
    )
    parser.add_argument("--split", default="test", help="split to write (default: %(default)s)")
    parser.add_argument("--out", required=True, type=Path, help="folder of the new bag")
    parser.add_argument(
        "--rate", type=arguments.rate, help="frames a second (default: as the folder tells, else 2)"
    )
    parser.add_argument(
        "--size", type=arguments.picture_size, metavar="WxH", help="make all pictures so large"
    )
    parser.add_argument("--limit", type=arguments.positive, help="write only the first so many frames")
    parser.add_argument("--labels", action="store_true", help="write the truth too, for `evaluate --bag`")
    parser.add_argument(
        "--classes", choices=("fine", "coarse"), default="fine", help="labels to write (default: %(default)s)"
    )
    parser.add_argument(
        "--storage",
        choices=tuple(STORAGES),
        default="mcap",
        help="what the bag's files are (default: %(default)s)",
    )
    parser.add_argument(
        "--modalities",
        nargs="+",
        type=arguments.sensor,
        default=MODALITIES,
        metavar="SENSOR",
        help=f"out of {arguments.SENSORS} (default: all that the split has)",
    )


def run(given: argparse.Namespace) -> int:
    """Write the bag."""
    dataset = open_folder(given.data, given.split, given.classes)
    written = write_dataset(
        dataset,
        given.out,
        rate=given.rate or 2.0,
        modalities=given.modalities,
        limit=given.limit,
        storage=given.storage,
        labels=given.labels,
        times=times_of(dataset) if given.rate is None else None,
        size=given.size,
        say=lambda text: print(f"robust-perception bag: {text}", file=sys.stderr),
    )
    print(f"{given.out}: {written} messages of {len(dataset.names[: given.limit])} frames")
    return 0
