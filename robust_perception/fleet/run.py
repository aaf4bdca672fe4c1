"""Bags one after the other in this process, or several at once through Ray; what comes of each as it is done.

One worker needs no Ray. With more, every worker is an actor that has loaded the model once and is given the
next bag when it is done with one, so that long and short bags mix. A worker whose process dies fails the bag
that it had, and another takes its place.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

from robust_perception.engine.engine import Engine
from robust_perception.fleet.cluster import cluster
from robust_perception.fleet.errors import FleetError
from robust_perception.fleet.find import Bag
from robust_perception.fleet.job import Job
from robust_perception.fleet.worker import Outcome, Worker

Done = tuple[Bag, Outcome]


class Crew(NamedTuple):
    """Who works: how many, and on which Ray cluster (None = one of its own on this machine)."""

    workers: int = 1
    address: str | None = None


def measure(
    job: Job, bags: Sequence[Bag], known: Collection[str], crew: Crew, engine: Engine | None = None
) -> Iterator[Done]:
    """Measure every bag.

    Args:
        job: what is measured.
        bags: in the order in which they are begun.
        known: beginnings of the keys of results that need not be made.
        crew: who works.
        engine: the job's, where this process has loaded it; other processes load their own.

    Yields:
        Every bag once, as it is done.

    Raises:
        EngineError: the model cannot be loaded in this process.
        FleetError: Ray is not installed, no cluster answers, or a worker cannot load the model.
    """
    if crew.workers == 1 and crew.address is None:
        worker = Worker(job, known, engine)
        for bag in bags:
            yield bag, worker.measure(str(bag.path.resolve()))
        return
    with cluster(crew.workers, crew.address) as ray:
        yield from _on_ray(ray, job, bags, known, crew)


def _on_ray(ray: Any, job: Job, bags: Sequence[Bag], known: Collection[str], crew: Crew) -> Iterator[Done]:
    there = int(ray.cluster_resources().get("CPU", 1))
    count = max(1, min(crew.workers or there, there, len(bags)))
    remote = ray.remote(num_cpus=1)(Worker)
    keys = ray.put(frozenset(known))
    waiting = list(reversed(bags))
    busy: dict[Any, tuple[Any, Bag]] = {}
    lost = 0

    def give(actor: Any) -> None:
        bag = waiting.pop()
        busy[actor.measure.remote(str(bag.path.resolve()))] = actor, bag

    for _ in range(count):
        give(remote.remote(job, keys))
    while busy:
        (ready,), _ = ray.wait(list(busy), num_returns=1)
        actor, bag = busy.pop(ready)
        try:
            outcome, lost = ray.get(ready), 0
        except ray.exceptions.RayError as error:
            lost += 1
            if lost > count and not _loads(ray, remote, job):
                msg = f"expected workers that load the model {job.model}, got: {_reason(error)}"
                raise FleetError(msg) from None
            outcome = Outcome("", None, f"{bag.path}: its worker ended: {_reason(error)}", 0.0, 0.0)
            actor = None
        yield bag, outcome
        if waiting:
            give(actor or remote.remote(job, keys))


def _loads(ray: Any, remote: Any, job: Job) -> bool:
    """Whether a fresh worker comes up at all."""
    actor = remote.remote(job)
    try:
        ray.get(actor.__ray_ready__.remote())
    except ray.exceptions.RayError:
        return False
    finally:
        ray.kill(actor)
    return True


def _reason(error: Exception) -> str:
    """The last line that says something, of the many in which Ray tells a failure."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, BaseException):
        return f"{type(cause).__name__}: {cause}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
