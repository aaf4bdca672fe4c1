"""`robust-perception bench`: what a model costs on this machine, backends and precisions side by side."""

from __future__ import annotations

import argparse
import datetime
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from robust_perception import arguments, extras
from robust_perception.benchmarking import latency, machine, memory, rates, switching, table
from robust_perception.benchmarking.errors import BenchmarkError
from robust_perception.benchmarking.frames import Frames
from robust_perception.benchmarking.records import Head, Record, Report
from robust_perception.benchmarking.variants import Variant, asked_for, load_variants
from robust_perception.engine import choice
from robust_perception.engine.engine import warm_up
from robust_perception.engine.errors import EngineError
from robust_perception.engine.manifest import Manifest
from robust_perception.engine.models import find_model
from robust_perception.engine.threads import thread_count
from robust_perception.progress import Steps
from robust_perception.vocabulary import Pattern

SWITCH_SHARE, SECOND_SHARE = 5, 25
"""Rounds of latency to one round through all switches, and to one second of ticking sensors."""

ITSELF = Path("the model itself")


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="robust-perception bench",
        description="Measure time and memory of a model: all variants take turns in every round, and ratios "
        "to the first one come first.",
    )
    parser.add_argument("--model", default="default", help="model folder or name (default: %(default)s)")
    parser.add_argument(
        "--backend",
        nargs="+",
        default=(),
        choices=list(choice.BACKENDS),
        metavar="B",
        help=f"out of {', '.join(choice.BACKENDS)} (default: all that can be used here)",
    )
    parser.add_argument(
        "--precision",
        nargs="+",
        default=(),
        choices=choice.PRECISION_CHOICES[1:],
        metavar="P",
        help=f"out of {', '.join(choice.PRECISION_CHOICES[1:])} (default: all that model and backend have)",
    )
    parser.add_argument(
        "--patterns",
        type=arguments.patterns,
        default=(),
        help="comma-separated, e.g. rgb+thermal,depth (default: all of the model)",
    )
    parser.add_argument(
        "--rounds", type=arguments.positive, default=50, help="rounds of measuring (default: %(default)s)"
    )
    parser.add_argument(
        "--threads", type=arguments.positive, help="processor threads of one operator (default: one a core)"
    )
    parser.add_argument(
        "--torch",
        nargs="?",
        const=ITSELF,
        type=Path,
        metavar="WEIGHTS",
        help="the network in torch as well, with the model's own weights or those of a best.safetensors",
    )
    arguments.add_cache_option(parser)
    parser.add_argument("--json", type=Path, help="write head and records here")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: 0 when measured, 1 when nothing can be, 2 on wrong usage."""
    given = build_parser().parse_args(argv)
    try:
        arguments.make_way(given.json)
        report = run(given)
        try:
            print(table.text(report))
        finally:  # a reader that has enough, as `| head` has, takes no file away
            if given.json is not None:
                given.json.write_text(report.to_text(), encoding="utf-8")
    except BrokenPipeError:
        raise  # nothing went wrong: who called ends as one does whose reader has gone
    except (BenchmarkError, EngineError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


def run(given: argparse.Namespace) -> Report:
    """Measure all that was asked for."""
    say, load, told = Steps("bench", sys.stderr), os.getloadavg()[0], machine.describe()
    if load > told["cores"]:
        print(f"bench: {load:.1f} processes share {told['cores']} cores: trust ratios alone", file=sys.stderr)
    folder, threads = find_model(given.model), thread_count(given.threads)
    say("loading")
    manifest = Manifest.load(folder, check_files=False)  # each file is checked as it is read
    pairs = asked_for(given.backend, given.precision, manifest.precisions)
    variants, left_out = load_variants(folder, pairs, threads, given.cache)
    if given.torch is not None:
        weights = folder if given.torch == ITSELF else given.torch
        more, failed = _torch(weights, variants[0], threads)
        variants, left_out = [*variants, *more], [*left_out, *failed]
    for reason in left_out:
        print(f"bench: left out: {reason}", file=sys.stderr)
    patterns = _patterns(given.patterns, manifest.patterns)
    frames = Frames(manifest.modalities, manifest.size)
    for variant in variants:
        warm_up(variant.engine)
    records: list[Record] = []
    say(f"latency of {', '.join(variant.name for variant in variants)}")
    records += latency.measure(variants, frames, patterns, given.rounds)
    say("switches")
    records += switching.measure(variants, frames, patterns, -(-given.rounds // SWITCH_SHARE))
    say("sensors at rates of their own")
    records += rates.measure(variants, frames, patterns[0], -(-given.rounds // SECOND_SHARE))
    say("memory")
    found, failed = memory.measure(variants, threads, given.cache)
    records, left_out = [*records, *found], [*left_out, *failed]
    say("done")
    head = Head(
        date=datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat(),
        model=f"{manifest.name} {manifest.version}",
        model_sha256=manifest.sha256,
        input_sha256=frames.sha256,
        rounds=given.rounds,
        threads=threads,
        load=round(load, 2),
        machine=told,
        versions=machine.versions(*(["torch"] if given.torch is not None else [])),
        left_out=left_out,
    )
    return Report(head, tuple(records))


def _patterns(asked: Sequence[Pattern], known: Sequence[Pattern]) -> list[Pattern]:
    """Those asked for, richest first; BenchmarkError for one the model does not serve."""
    for pattern in asked:
        if pattern not in known:
            msg = f"--patterns: expected some of {', '.join(map(str, known))}, got {pattern}"
            raise BenchmarkError(msg)
    return [pattern for pattern in known if not asked or pattern in asked]


def _torch(weights: Path, first: Variant, threads: int) -> tuple[list[Variant], list[str]]:
    try:
        from robust_perception.benchmarking.torch_network import torch_variants
    except ModuleNotFoundError as error:
        msg = f"--torch: expected the packages of training, got no {error.name!r}; "
        msg += extras.install("train")
        raise BenchmarkError(msg) from None
    return torch_variants(weights, first.engine.folder, first.engine.manifest, threads)


if __name__ == "__main__":
    sys.exit(main())
