"""`bag repair`: a bag that was cut off, or is damaged, made whole."""

from __future__ import annotations

import argparse
from pathlib import Path

from robust_perception.bags import repair

HELP = "make a bag whole that was cut off, or is damaged"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("bag", type=Path, help="folder of the bag, or its .mcap or .db3 file")
    parser.add_argument(
        "--out", type=Path, help="folder of a new bag for what can be read (default: in place)"
    )


def run(given: argparse.Namespace) -> int:
    """Repair the bag and print what was wrong with it."""
    print(mend(given.bag, given.out))
    return 0


def mend(path: Path, out: Path | None) -> str:
    """Repair a bag; what was wrong with it, as text. BagError when nothing can be read."""
    done = repair.repair(path) if out is None else repair.copy(path, out)
    whole = f"{out or path}: {done.messages} messages"
    if not done.problems:
        return f"{whole}; nothing was wrong with it"
    return "\n".join(
        [*(f"  {problem}" for problem in done.problems), f"{whole} are in the bag, which is whole now"]
    )
