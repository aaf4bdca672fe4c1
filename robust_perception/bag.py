"""`robust-perception bag`: look into bags, record, repair and convert them, check replay."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType

from robust_perception.bag_commands import check, from_dataset, info, record, repair, to_dataset
from robust_perception.bag_commands.errors import CommandError
from robust_perception.bags.errors import BagError
from robust_perception.datasets import DatasetError
from robust_perception.faults.errors import FaultError

COMMANDS: Mapping[str, ModuleType] = {
    "info": info,
    "record": record,
    "repair": repair,
    "from-dataset": from_dataset,
    "to-dataset": to_dataset,
    "check": check,
}


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="robust-perception bag",
        description="Look into bags, record, make and repair them, check replay. record and check need ROS.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        command.add_arguments(commands.add_parser(name, help=command.HELP))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: 0 when it did as asked, 1 when bag or data do not allow it, 2 on wrong usage."""
    given = build_parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = COMMANDS[given.command].run
    try:
        return run(given)
    except (BagError, DatasetError, CommandError, FaultError) as error:
        print(f"robust-perception bag: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
