"""`robust-perception evaluate --bags`: many bags, resumable, into one report and one page.

The report and the page are functions of the bags and the recipe: neither the number of workers, nor who was
done first, nor what was there from an earlier run changes them, wall time apart.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from robust_perception import arguments, extras
from robust_perception.bags.reader import warn_once
from robust_perception.engine.engine import Engine
from robust_perception.engine.threads import usable_cores
from robust_perception.evaluation.recipe import versions
from robust_perception.fleet.errors import FleetError, ResultError
from robust_perception.fleet.find import Bag
from robust_perception.fleet.job import Job, faults_of
from robust_perception.fleet.merge import Failed, FleetReport, merge
from robust_perception.fleet.result import DIGITS, BagResult, Store
from robust_perception.fleet.run import Crew, measure

RESULTS = Path("fleet_results")

Progress = Callable[[int, int], None]


OPTIONS = ("workers", "address", "results", "html")
"""What `add_options` adds."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what only many bags need."""
    group = parser.add_argument_group("many bags")
    group.add_argument(
        "--workers",
        type=arguments.positive,
        help="bags at once; 1 needs no Ray (default: all cores with Ray installed, else 1)",
    )
    group.add_argument("--address", help="a Ray cluster that runs already, e.g. auto or HOST:6379")
    group.add_argument(
        "--results",
        type=Path,
        default=RESULTS,
        help="folder of one small file a bag; what is there is not measured again (default: %(default)s)",
    )
    group.add_argument("--html", type=Path, help="write the page with a row a bag here")


def crew_of(workers: int | None, address: str | None, bags: int, say: Callable[[str], None]) -> Crew:
    """Who works: as asked, else all cores of this machine where Ray is installed."""
    if address is not None:
        return Crew(workers or bags, address)
    if workers is None and importlib.util.find_spec("ray") is None:
        say(f"Ray is not installed: one bag at a time; for more: {extras.install('fleet')}")
        return Crew(1)
    return Crew(min(bags, workers or usable_cores()))


def evaluate_bags(
    engine: Engine,
    job: Job,
    bags: Sequence[Bag],
    store: Store,
    crew: Crew,
    *,
    head: Mapping[str, Any],
    progress: Progress | None = None,
    say: Callable[[str], None] = print,
) -> FleetReport:
    """Measure the bags that have no result yet and join all.

    Args:
        engine: the model, loaded in this process.
        job: what is measured.
        bags: which, in the order of the rows.
        store: where results are, and are put.
        crew: who works.
        head: what the report begins with.
        progress: told bags measured and to be measured now.
        say: told of bags that fail, as they do, and at the end of what could not be done with the others.

    Raises:
        FleetError: no bag could be measured, faster-coco-eval or Ray is not installed, no cluster answers.
        OSError: a result cannot be written.
    """
    if importlib.util.find_spec("faster_coco_eval") is None:
        msg = f"faster-coco-eval judges boxes, and is missing: {extras.install('evaluate')}"
        raise FleetError(msg)
    known = _whole(store, say)
    files: dict[str, Path] = {}
    failed: dict[str, Failed] = {}
    damage: dict[str, str] = {}
    done = reused = 0
    for bag, outcome in measure(job, bags, known, crew, engine):
        if outcome.damage:
            damage[bag.name] = outcome.damage
            warn_once(outcome.damage)  # nobody sees the error stream of Ray's processes
        if outcome.error is not None:
            failed[bag.name] = Failed(bag.name, outcome.error)
            say(f"not measured: {bag.name}: {outcome.error}")
        elif outcome.data is not None:
            files[bag.name] = store.save(bag.name, outcome.key, outcome.data)
        else:
            files[bag.name] = known[outcome.key[:DIGITS]]
            reused += 1
            continue
        done += 1
        if progress is not None:
            progress(done, len(bags) - reused)
    if reused:
        say(f"{reused} of {len(bags)} bags were measured before: {store.folder}")
    if not files:
        msg = f"expected a bag that can be measured, got none of {len(bags)}"
        raise FleetError(msg)

    def results() -> Iterator[tuple[str, BagResult]]:
        for bag in bags:
            if bag.name in files:
                yield bag.name, store.load(files[bag.name])

    manifest = engine.manifest
    missing = [failed[bag.name] for bag in bags if bag.name in failed]
    more = {
        "fault_windows": faults_of(job.script),
        "seed": job.script.seed,
        "rate_hz": job.rate_hz,
        "versions": versions(),
    }
    names = manifest.class_names, manifest.scene_names
    report = merge(results(), missing, *names, {**head, **more}, damage)
    for row in report.rows:
        for text in row["said"]:
            say(f"{row['bag']}: {text}")
    return report


def _whole(store: Store, say: Callable[[str], None]) -> dict[str, Path]:
    """The results that can be read."""
    known = {}
    for key, path in store.known().items():
        try:
            if store.load(path).key[:DIGITS] == key:
                known[key] = path
        except ResultError as error:
            say(str(error))
    return known
