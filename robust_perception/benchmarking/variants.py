"""What is compared: engines on one model, each a backend in a precision; the first is what ratios are to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from robust_perception.benchmarking import machine
from robust_perception.benchmarking.errors import BenchmarkError
from robust_perception.benchmarking.records import ALL, Record
from robust_perception.engine import choice
from robust_perception.engine.engine import Engine
from robust_perception.engine.errors import EngineError
from robust_perception.engine.precision import PRECISIONS
from robust_perception.vocabulary import Pattern

Load = Callable[[], Engine]


@dataclass(frozen=True)
class Variant:
    """One of them.

    Attributes:
        engine: loaded and checked.
        load: makes a fresh one that has run nothing but its check at load; None where that is not asked for.
    """

    engine: Engine
    load: Load | None = None

    @property
    def name(self) -> str:
        """Backend and precision."""
        return f"{self.engine.info.backend} {self.engine.info.precision}"

    def beside(self) -> Engine:
        """Another engine on the same backend, with a cache of its own, that encodes one sensor at a time."""
        return Engine.of(self.engine.backend, self.engine.manifest, self.engine.folder)

    def record(self, benchmark: str, pattern: Pattern | None, metric: str, value: float, unit: str) -> Record:
        """A number of this variant; of all patterns together when None is named."""
        info = self.engine.info
        return Record(
            benchmark,
            where(info.device),
            info.backend,
            info.precision,
            ALL if pattern is None else str(pattern),
            metric,
            float(value),
            unit,
        )


def where(device: str) -> str:
    """A backend's device in words that tell machines apart."""
    if device != "cpu":
        return device
    found = machine.describe()
    return f"{found['cpu']}, {found['cores']} cores"


def asked_for(
    backends: Sequence[str], precisions: Sequence[str], of_model: Sequence[str]
) -> list[tuple[str, str]]:
    """Pairs of backend and precision to try, in the order in which they are named.

    Where no backend is named, every one that nothing speaks against, the one that is everywhere first. Where
    no precision is, all that the backend claims and the model has graphs for, fp32 first.
    """
    usable = [name for name in choice.BACKENDS if choice.probe(name) is None]
    usable.sort(key=lambda name: name != choice.EVERYWHERE)
    pairs = []
    for name in backends or usable:
        claimed = choice.BACKENDS[name].precisions
        for precision in precisions or [p for p in PRECISIONS if claimed.get(p) in of_model]:
            pairs.append((name, precision))
    return list(dict.fromkeys(pairs))


def load_variants(
    folder: Path, pairs: Sequence[tuple[str, str]], threads: int, cache: Path | None = None
) -> tuple[list[Variant], list[str]]:
    """Load each pair; those that do not run here are named with the reason.

    Args:
        folder: of the model.
        pairs: backend and precision.
        threads: of one operator.
        cache: folder of plans; None = the user's own.

    Raises:
        BenchmarkError: none runs.
    """
    variants, left_out = [], []
    for backend, precision in pairs:
        load = partial(Engine.load, folder, backend, threads, precision, cache)
        try:
            variants.append(Variant(load(), load))
        except EngineError as error:
            left_out.append(f"{backend} {precision}: {error}")
    if not variants:
        unusable = [reason for name in choice.BACKENDS if (reason := choice.probe(name)) is not None]
        msg = "expected a backend that runs the model, got none: " + "; ".join(left_out or unusable)
        raise BenchmarkError(msg)
    return variants, left_out
