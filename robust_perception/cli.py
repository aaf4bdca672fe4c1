"""`robust-perception COMMAND`: finds the command, which does the rest.

A command is imported only when it is called, so that help is instant and a machine that only runs needs no
torch.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import NamedTuple

from robust_perception import __version__, environment, extras


class Command(NamedTuple):
    """A command: the module whose `main` it is, the extras it needs beyond the base, one line of help."""

    module: str
    extras: tuple[str, ...]
    help: str


COMMANDS = {
    "demo": Command(
        "robust_perception.demo.command",
        ("ros", "sim", "demo"),
        "lose and regain every sensor on the live graph",
    ),
    "train": Command("robust_perception.train", ("train",), "train a model on a data folder"),
    "evaluate": Command(
        "robust_perception.evaluate",
        ("evaluate",),
        "measure a model on a data folder or on bags, with any of its sensors missing",
    ),
    "export": Command("robust_perception.export", ("train",), "turn a checkpoint into a model folder"),
    "build-engine": Command(
        "robust_perception.build_engine", (), "build a model's TensorRT plans for the GPU that is here"
    ),
    "card": Command(
        "robust_perception.card.command", ("evaluate",), "one page: quality, faults, losses; a gate for CI"
    ),
    "bench": Command("robust_perception.bench", (), "measure a model's time and memory on this machine"),
    "bag": Command("robust_perception.bag", ("evaluate",), "write, read and convert bags"),
    "doctor": Command("robust_perception.doctor", (), "what this machine has and lacks, and how to fix it"),
}


def parser() -> argparse.ArgumentParser:
    """The outer command line; what follows the command is the command's own."""
    listing = "\n".join(f"  {name:<13}{command.help}" for name, command in COMMANDS.items())
    outer = argparse.ArgumentParser(
        prog="robust-perception",
        description="Perception from RGB, depth, thermal and sound that goes on when sensors drop out.",
        epilog=f"commands:\n{listing}\n\n`robust-perception COMMAND --help` says what each takes.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    outer.add_argument("--version", action="version", version=f"robust_perception {__version__}")
    outer.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of those below")
    outer.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="arguments of the command")
    return outer


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (0 good, 1 failed, 2 wrong usage)."""
    options = parser().parse_args(argv)
    command = COMMANDS[options.command]
    try:
        if options.command == "demo":
            environment.prepare()
        run: Callable[[Sequence[str]], int] = _imported(command.module).main
        # Told to end, a command ends as on Ctrl-C: it stops the processes that it has started.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        sys.argv[0] = f"robust-perception {options.command}"
        code = run(options.arguments)
        print(end="", flush=True)
        return code
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == environment.NAME:
            raise
        print(
            f"robust-perception {options.command} needs {error.name!r}, which is not installed: "
            f"{extras.install(*command.extras)}",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _drop_unwritten()  # who reads has enough, as `| head` has
        return 128 + signal.SIGPIPE
    except OSError as error:
        # A command names what it opens itself; this is a full disk below its output, a package without data.
        print(f"robust-perception {options.command}: {error}", file=sys.stderr)
        _drop_unwritten()
        return 1


def _imported(name: str) -> ModuleType:
    """A command's module. Until it is there, Ctrl-C ends the process at once.

    Nothing is to be put in order yet, and an exception amid imports comes out as whatever the code around it
    makes of one: a RuntimeError of a class, a package that seems to be broken.
    """
    handler = signal.getsignal(signal.SIGINT)
    if handler is not signal.default_int_handler:  # ignored, as by `nohup`, or somebody's own
        return importlib.import_module(name)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        return importlib.import_module(name)
    finally:
        signal.signal(signal.SIGINT, handler)


def _drop_unwritten() -> None:
    """Have what the standard output does not take go nowhere, and not fail once more as Python ends."""
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
