"""The live table in the terminal; where there is no terminal, a line every few seconds."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from robust_perception.demo.record import Evidence, Output
from robust_perception.faults.script import FaultScript
from robust_perception.vocabulary import MODALITIES, Modality

RECENT_NS = 3_000_000_000
"""What the figures of the table look back on."""

LINE_S = 10.0
"""Seconds of the script between two lines where there is no terminal."""


class LiveTable:
    """Shows a run; a context manager.

    Args:
        console: where to.
        script: what happens to the sensors.
        end_s: time in the script at which the run ends.
    """

    def __init__(self, console: Console, script: FaultScript, end_s: float) -> None:
        self._console, self._script, self._end_s = console, script, end_s
        self._live = Live(console=console, refresh_per_second=4, transient=True, auto_refresh=False)
        self._next_line_s = 0.0

    def __enter__(self) -> LiveTable:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def show(self, evidence: Evidence, now_ns: int) -> None:
        """Draw the present state."""
        time_s = 0.0 if evidence.origin_ns is None else max(0.0, (now_ns - evidence.origin_ns) / 1e9)
        recent = [o for o in evidence.outputs[-60:] if o.published_ns > now_ns - RECENT_NS]
        if self._console.is_terminal:
            self._live.update(self._drawn(evidence, recent, time_s, now_ns), refresh=True)
        elif time_s >= self._next_line_s:
            self._next_line_s = time_s + LINE_S
            left = max(0.0, self._end_s - time_s)
            self._console.print(
                f"{time_s:5.1f} s, {left:3.0f} s left: {headline(recent, now_ns)}", highlight=False
            )

    def _drawn(self, evidence: Evidence, recent: Sequence[Output], time_s: float, now_ns: int) -> Group:
        table = Table(expand=False)
        table.add_column("sensor", min_width=12)
        table.add_column("what happens to it", min_width=22)
        table.add_column("the node says", min_width=22)
        table.add_column("Hz", justify="right", min_width=5)
        table.add_column("age ms", justify="right", min_width=7)
        newest = recent[-1] if recent else None
        for modality in MODALITIES:
            table.add_row(*self._row(evidence, newest, modality, time_s, now_ns))
        left = max(0.0, self._end_s - time_s)
        bar = ProgressBar(total=self._end_s, completed=min(time_s, self._end_s), width=60)
        return Group(
            table, Text(headline(recent, now_ns), style="bold"), bar, Text(f"{left:.0f} s left", style="dim")
        )

    def _row(
        self, evidence: Evidence, newest: Output | None, modality: Modality, time_s: float, now_ns: int
    ) -> tuple[Text, ...]:
        faults = [f.kind for f in self._script.active(time_s) if f.sensor is modality]
        happens = Text(", ".join(faults) or "-", style="red" if faults else "dim")
        ends = evidence.arrivals[modality]
        age = f"{(now_ns - ends[-1]) / 1e6:.0f}" if ends else ""
        if newest is None:
            return Text(str(modality)), happens, Text("no output", style="red"), Text(""), Text(age)
        alive = modality in newest.pattern
        state = Text(newest.states.get(modality, ""), style="green" if alive else "red")
        return (
            Text(str(modality)),
            happens,
            state,
            Text(f"{newest.rates_hz.get(modality, 0.0):.1f}"),
            Text(age),
        )


def headline(recent: Sequence[Output], now_ns: int) -> str:
    """The newest output in one line: pattern, rate, latency, agreement with the truth."""
    if not recent or now_ns - recent[-1].published_ns > 500_000_000:
        return "no output"
    latencies = [output.latency_ms for output in recent]
    qualities = [output.quality for output in recent if output.quality is not None]
    agreement = f", agrees with the truth {np.mean(qualities):.0f} % mIoU" if qualities else ""
    return (
        f"{recent[-1].pattern}, {len(recent) * 1e9 / RECENT_NS:.1f} Hz, "
        f"latency {np.median(latencies):.0f} ms (most {max(latencies):.0f}){agreement}"
    )
