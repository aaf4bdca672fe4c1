"""`bag record`: live topics, chosen or all, until Ctrl-C.

It runs `recorder_node` in this process, so that both do the same; every argument is a parameter of the node,
which says more of it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from robust_perception import arguments, extras
from robust_perception.bag_commands.errors import CommandError
from robust_perception.bags.writer import COMPRESSIONS, STORAGES

HELP = "record live topics, chosen or all, until Ctrl-C"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "topics", nargs="*", metavar="TOPIC", help="by full name; none and no --regex: all but overlays"
    )
    parser.add_argument("--out", type=Path, help="folder of the new bag (default: recording_DATE-TIME)")
    parser.add_argument(
        "--regex", default="", help="topics whose full name this expression matches, too (default: none)"
    )
    parser.add_argument(
        "--exclude", default="", help="no topics whose full name this expression matches (default: none)"
    )
    parser.add_argument(
        "--storage",
        choices=tuple(STORAGES),
        default="mcap",
        help="what the bag's files are (default: %(default)s)",
    )
    parser.add_argument(
        "--compression",
        choices=COMPRESSIONS,
        default="none",
        help="zstd or lz4 of mcap, message or file of sqlite3 (default: %(default)s)",
    )
    parser.add_argument(
        "--split-mb",
        type=arguments.count,
        default=0,
        help="go on in a new file before one is larger, MiB; 0 = never (default: %(default)s)",
    )
    parser.add_argument(
        "--split-seconds",
        type=arguments.number_from_zero,
        default=0.0,
        help="go on in a new file after so many seconds; 0 = never (default: %(default)s)",
    )
    parser.add_argument(
        "--queue-mb",
        type=arguments.positive,
        default=256,
        help="most memory for messages that wait for the disk, MiB (default: %(default)s)",
    )
    parser.add_argument(
        "--keep-free-mb",
        type=arguments.count,
        default=64,
        help="end the recording when the disk has less space left, MiB (default: %(default)s)",
    )
    parser.add_argument(
        "--duration",
        type=arguments.number_from_zero,
        default=0.0,
        help="end after so many seconds; 0 = on Ctrl-C (default: %(default)s)",
    )
    parser.add_argument(
        "--progress",
        type=arguments.number_from_zero,
        default=5.0,
        help="seconds between two lines that tell how it goes; 0 = none (default: %(default)s)",
    )


def run(given: argparse.Namespace) -> int:
    """Record live topics; the exit codes of recorder_node.

    Raises:
        CommandError: ROS is not installed.
    """
    try:
        from robust_perception.ros import recorder_node
    except ModuleNotFoundError as error:
        msg = f"record needs ROS, got no {error.name!r}; source ROS, or {extras.install('ros')}"
        raise CommandError(msg) from None
    values = {
        "bag": "" if given.out is None else str(given.out),
        "topics": list(given.topics) or [""],
        "pattern": given.regex,
        "exclude": given.exclude,
        "storage": given.storage,
        "compression": given.compression,
        "split_mb": given.split_mb,
        "split_s": given.split_seconds,
        "queue_mb": given.queue_mb,
        "keep_free_mb": given.keep_free_mb,
        "duration": given.duration,
        "progress": given.progress,
    }
    # JSON is YAML, which is what ROS takes a parameter's value for: strings keep their quotes.
    words = [word for name, value in values.items() for word in ("-p", f"{name}:={json.dumps(value)}")]
    return recorder_node.main(["recorder_node", "--ros-args", *words])
