"""Measures bags one after the other with one engine, in this process or in one of Ray's."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from robust_perception.bags.errors import BagError
from robust_perception.engine.ahead import Ahead
from robust_perception.engine.engine import Engine
from robust_perception.evaluation.bag_source import BagSource
from robust_perception.evaluation.errors import EvaluationError
from robust_perception.evaluation.on_bag import evaluate_bag
from robust_perception.evaluation.recipe import bag_sha256
from robust_perception.faults.script import FaultScript
from robust_perception.fleet.job import Job, key_of
from robust_perception.fleet.result import DIGITS, BagResult


class Outcome(NamedTuple):
    """What became of a bag.

    Attributes:
        key: of its result; empty when it was never known.
        data: its result; None when there is one under this key already, or an error.
        error: why there is none, one line; None where all went well.
        seconds: wall time.
        cpu_seconds: of all threads of its process.
        damage: what is wrong with a bag that was measured as far as it goes; empty = it is whole.
    """

    key: str
    data: bytes | None
    error: str | None
    seconds: float
    cpu_seconds: float
    damage: str = ""


class Worker:
    """An engine and what it does with a bag.

    Args:
        job: what is measured.
        known: beginnings of the keys of results that are there already.
        engine: the job's, where it is loaded already, as `Job.load` does it.

    Raises:
        EngineError: the model cannot be loaded here.
    """

    def __init__(self, job: Job, known: Collection[str] = (), engine: Engine | None = None) -> None:
        self._job, self._known = job, frozenset(known)
        self._engine = engine or job.load()
        self._recipe = job.recipe(self._engine)

    def measure(self, path: str) -> Outcome:
        """Measure one bag; whatever is wrong with it is in the outcome."""
        start, cpu_start = time.perf_counter(), time.process_time()
        key, data, error, damage = "", None, None, ""
        try:
            source = self._job.open(Path(path), self._engine)
            damage = source.damage
            sha = bag_sha256(source.path)
            key = key_of(self._recipe, sha)
            if key[:DIGITS] not in self._known:
                data = self._measured(source, key, sha).to_bytes()
        except (BagError, EvaluationError) as problem:
            error = str(problem)
        except Exception as problem:  # one bag must not end the others, whatever it does to a library
            error = f"{path}: {type(problem).__name__}: {problem}"
        one_line = None if error is None else " ".join(error.split())
        spent = time.perf_counter() - start, time.process_time() - cpu_start
        return Outcome(key, data, one_line, *spent, damage)

    def _measured(self, source: BagSource, key: str, sha: str) -> BagResult:
        job = self._job
        script = FaultScript(job.script.faults, job.script.seed, job.script.name)
        with Ahead(self._engine, job.threads) as ahead:
            report = evaluate_bag(
                self._engine,
                source,
                job.patterns,
                ahead=ahead,
                script=script,
                rate_hz=job.rate_hz,
                head={
                    "bag_sha256": sha,
                    "bag_seconds": source.seconds,
                    "has_truth": source.has_truth,
                    "scene_names": list(source.scene_names),
                    "said": source.said,
                },
            )
        return BagResult.of(key, report)
