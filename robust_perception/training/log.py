"""What a run shows while it goes on: a line of progress with the time left; CSV and TensorBoard by epoch."""

from __future__ import annotations

import csv
import importlib.util
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

LOG = "log.csv"

SECONDS_BETWEEN_LINES = 60.0
"""Pause between progress lines where nobody watches (a log file)."""


class ProgressLine:
    """Steps done, loss and time left: one line that rewrites itself on a terminal, one a minute elsewhere.

    Args:
        stream: where to write.
        steps: of the whole run.
        done: already done before this process.
        clock: seconds, monotonic.
    """

    def __init__(
        self, stream: TextIO, steps: int, done: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream, self._steps, self._first, self._clock = stream, steps, done, clock
        self._start = self._last = clock()

    def __call__(self, step: int, epoch: int, loss: float, learning_rate: float) -> None:
        """Show that `step` steps are done."""
        now = self._clock()
        interactive = self._stream.isatty()
        if not interactive and now - self._last < SECONDS_BETWEEN_LINES:
            return
        self._last = now
        left = (now - self._start) / max(1, step - self._first) * (self._steps - step)
        text = (
            f"epoch {epoch} step {step}/{self._steps} loss {loss:.3f} rate {learning_rate:.1e} "
            f"{duration(left)} left"
        )
        self._stream.write(f"\r{text}\033[K" if interactive else f"{text}\n")
        self._stream.flush()

    def say(self, text: str) -> None:
        """A line that stays."""
        self._stream.write(f"\r\033[K{text}\n" if self._stream.isatty() else f"{text}\n")
        self._stream.flush()


def duration(seconds: float) -> str:
    """Hours, minutes, seconds: "1:02:03"."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


class Journal:
    """The rows of a run in `log.csv`, and for TensorBoard where that is installed.

    Args:
        folder: of the run.
        epoch: epochs done before this process; what was written after them is dropped.
    """

    def __init__(self, folder: Path, epoch: int) -> None:
        self._path = folder / LOG
        self._writer = None
        if importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter  # seconds to import

            self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=epoch + 1)

    def write(self, rows: Sequence[Mapping[str, float]]) -> None:
        """All rows so far, of which the last is new."""
        write_csv(self._path, rows)
        if self._writer is not None:
            for name, value in rows[-1].items():
                if name != "epoch":
                    self._writer.add_scalar(name, value, int(rows[-1]["epoch"]))
            self._writer.flush()


def write_csv(path: Path, rows: Iterable[Mapping[str, float]]) -> None:
    """All rows of a run; columns in the order in which they first appear."""
    rows = list(rows)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
