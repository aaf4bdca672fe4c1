"""`robust-perception demo`: starts the graph, plays the faults, shows, records, judges, reports.

Simulation and fusion are processes of their own, as on a robot; this one listens, and says with its exit code
whether every promise of `promises` held.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from robust_perception import __version__, arguments, environment
from robust_perception.bags.errors import BagError
from robust_perception.bags.reader import BagReader
from robust_perception.bags.writer import BagWriter
from robust_perception.demo import film, report, timeline
from robust_perception.demo.promises import FROZEN, Limits, Promise, judge
from robust_perception.demo.record import Evidence, Record
from robust_perception.demo.table import LiveTable
from robust_perception.engine.errors import EngineError
from robust_perception.engine.models import find_model
from robust_perception.engine.threads import usable_cores
from robust_perception.faults.script import FaultScript
from robust_perception.presence.config import timeouts_s
from robust_perception.ros.children import Child, started
from robust_perception.ros.errors import RosError
from robust_perception.ros.fault_scripts import load_script
from robust_perception.ros.monitor import Monitor
from robust_perception.simulation.classes import CLASS_NAMES
from robust_perception.vocabulary import MODALITIES, Modality

START_S = 120.0
"""Deadline for a node to be active, on a slow machine."""
OUTPUT_RATE = 15.0
"""Most outputs a second, Hz."""
AFTER_S = 2.0
"""Seconds the run goes on after the last fault."""
OWN = ("report.html", "report.json", "demo.mp4", "recording", "fusion.log", "simulation.log")
"""What a run leaves in its folder, the mark apart."""
MARK = ".robust_perception_demo"
"""The file that says that a folder is a run's. Without it nothing in a folder is removed."""


class DemoError(Exception):
    """The run came to no end; the message says which process failed and shows its last lines."""


def _rate(text: str) -> float:
    """Read frames a second that `simulation_node` allows: it would say so after an earlier run is removed."""
    # Here, for help needs no simulator.
    from robust_perception.ros.simulation_node import SIMULATION

    (row,) = [row for row in SIMULATION if row.name == "rate"]
    value = arguments.number(text)
    try:
        row.check(value)
    except RosError:
        msg = f"expected {row.allowed} frames a second, got {text!r}"
        raise argparse.ArgumentTypeError(msg) from None
    return value


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="robust-perception demo",
        description="Lose and regain every sensor on the live graph; exit code 0 if every promise held.",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("demo_out"), help="folder of the run (default: %(default)s)"
    )
    parser.add_argument("--model", default="default", help="model folder or name (default: %(default)s)")
    parser.add_argument(
        "--faults",
        default="demo",
        help="fault script: a file, or a name in config/faults (default: %(default)s)",
    )
    parser.add_argument(
        "--rate",
        type=_rate,
        default=5.0,
        help="frames a second of each sensor (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=arguments.seed, default=4, help="seed of the simulated scene (default: %(default)s)"
    )
    arguments.add_domain_option(parser)
    parser.add_argument("--no-video", action="store_true", help="leave out the film, which takes a while")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: 0 when every promise held, 1 when one did not or the run failed, 2 on wrong usage."""
    given = build_parser().parse_args(argv)
    console = Console()
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    environment.prepare()
    try:
        script = load_script(given.faults)
        check(script)
        find_model(given.model)  # before an earlier run is removed, and a node is waited for
        out = prepared(given.out)
        before = os.getloadavg()[0]
        evidence, ends = run(given, script, out, console)
        loads = before, os.getloadavg()[0]  # drawing, below, keeps the cores busy too
        limits = Limits(timeouts(given.rate), period_s=1.0 / min(given.rate, OUTPUT_RATE))
        promises = [*judge(evidence, limits, script), *ends]
        done = report.Run(evidence, script, limits, promises, facts(given, evidence))
        console.print(verdict(promises))
        video = None if given.no_video else "demo.mp4"
        stills = pictures(out, evidence, video, given.rate, console)
        report.write(out / "report.html", done, stills, video)
        report.write_numbers(out / "report.json", done)
    except (DemoError, BagError, EngineError, RosError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    console.print(
        f"report: {out / 'report.html'}   recording: {out / 'recording'}"
        + (f"   film: {out / video}" if video else "")
    )
    held = all(promise.held for promise in promises)
    console.print(outcome(promises, loads), style="green" if held else "red", highlight=False)
    return 0 if held else 1


def timeouts(rate_hz: float) -> dict[Modality, float]:
    """Seconds: those of the package, or three periods of slower sensors, as config/fusion.yaml advises."""
    return timeouts_s(dict.fromkeys(MODALITIES, 1.0 / rate_hz))


def check(script: FaultScript) -> None:
    """DemoError for a sensor that never comes back: what is promised is that it is lost and regained."""
    for fault in script.faults:
        if fault.kind in ("loss", *FROZEN) and math.isinf(fault.until):
            got = f"{fault.kind} of {fault.sensor} from {fault.at:g} s on for good"
            msg = f"{script.name}: expected 'until', or a later return, got {got}; say when it ends"
            raise DemoError(msg)


def prepared(out: Path) -> Path:
    """The folder of the run, without what an earlier run left there.

    Raises:
        DemoError: it holds other things than those of an earlier run, or no run has marked it as its own.
    """
    out.mkdir(parents=True, exist_ok=True)
    mark = out / MARK
    own = set(OWN if mark.is_file() else ())
    entries = [entry for entry in out.iterdir() if entry != mark]
    strange = sorted({entry.name for entry in entries} - own)
    if strange:
        got = ", ".join(strange)
        msg = f"--out {out}: expected an empty folder or one of an earlier run, got one with {got}; "
        msg += "name another folder"
        raise DemoError(msg)
    for entry in entries:
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    mark.touch()
    return out


def run(
    given: argparse.Namespace, script: FaultScript, out: Path, console: Console
) -> tuple[Evidence, list[Promise]]:
    """Run the graph to the end of the script.

    Returns:
        What was seen, and the promises about the processes themselves.
    """
    record = Record(tuple(CLASS_NAMES))
    end_s = timeline.script_end(script) + AFTER_S
    with ExitStack() as stack:
        bag = stack.enter_context(BagWriter(out / "recording", compression="zstd"))
        monitor = stack.enter_context(Monitor(record, given.domain, bag))
        settings: dict[str, str | float] = {f"{m}.timeout": t for m, t in timeouts(given.rate).items()}
        settings |= {"model": given.model, "rate": OUTPUT_RATE}
        fusion = started(stack, "fusion_node", settings, given.domain, out / "fusion.log")
        console.print(f"loading model {given.model} ...", highlight=False)
        _wait_active(record, fusion)
        values = {"faults": given.faults, "rate": given.rate, "seed": given.seed, "wait": True}
        simulation = started(stack, "simulation_node", values, given.domain, out / "simulation.log")
        console.print(f"{end_s:.0f} s of {script.name} at {given.rate:g} Hz; logs in {out}", highlight=False)
        _watch(record, monitor, (fusion, simulation), script, end_s, console)
        evidence = record.snapshot()
        codes = [simulation.stop(), fusion.stop()]
    failure = monitor.failure
    with BagReader(out / "recording") as reader:
        messages = reader.message_count
    size = sum(file.stat().st_size for file in (out / "recording").iterdir()) / 1e6
    ends = [
        Promise(
            "both nodes end cleanly", "exit codes 0, 0", f"exit codes {codes[1]}, {codes[0]}", codes == [0, 0]
        ),
        Promise(
            "inputs and outputs are recorded",
            "no message lost by the recorder",
            f"{messages} messages, {size:.0f} MB" + (f"; {failure}" if failure else ""),
            failure is None and messages > 0,
        ),
    ]
    return evidence, ends


def _wait_active(record: Record, fusion: Child) -> None:
    deadline = time.monotonic() + START_S
    while not record.ready.wait(0.1):
        if not fusion.running or time.monotonic() > deadline:
            why = "ended" if not fusion.running else f"is not active after {START_S:.0f} s"
            msg = f"fusion_node {why}; its last lines:\n{_tail(fusion)}"
            raise DemoError(msg)


def _watch(
    record: Record,
    monitor: Monitor,
    children: Sequence[Child],
    script: FaultScript,
    end_s: float,
    console: Console,
) -> None:
    started = time.monotonic()
    with LiveTable(console, script, end_s) as table:
        while True:
            time.sleep(0.25)
            now_ns = monitor.now_ns()
            evidence = record.snapshot()
            table.show(evidence, now_ns)
            for child in children:
                if not child.running:
                    msg = f"{child.executable} ended with code {child.code}; its last lines:\n{_tail(child)}"
                    raise DemoError(msg)
            if evidence.origin_ns is None:
                if time.monotonic() - started > START_S:
                    msg = f"simulation_node sends nothing; its last lines:\n{_tail(children[1])}"
                    raise DemoError(msg)
            elif (now_ns - evidence.origin_ns) / 1e9 > end_s:
                return


def _tail(child: Child) -> str:
    return "\n".join(child.text().splitlines()[-15:])


def pictures(
    out: Path, evidence: Evidence, video: str | None, rate: float, console: Console
) -> dict[tuple[int, int], bytes]:
    """Stills of every change of pattern, and the film, out of the recording."""
    wanted = {(o.stamp_ns, o.turn) for _, o in timeline.changes(evidence.outputs)}
    stills: dict[tuple[int, int], bytes] = {}

    def frames() -> Iterator[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
        with console.status("drawing") as status:

            def tell(done: int, count: int) -> None:
                status.update(f"drawing the film, {100 * done // max(count, 1)} %")

            for shot in film.shots(out / "recording", tell):
                if (shot.stamp_ns, shot.turn) in wanted:
                    stills[shot.stamp_ns, shot.turn] = film.jpeg(shot.output)
                yield shot.film

    if video is None:
        for _ in frames():
            pass
    else:
        film.write_video(out / video, frames(), rate)
    return stills


def verdict(promises: Sequence[Promise]) -> Table:
    """The promises as a table of the terminal."""
    table = Table(title="promises")
    for name in ("promise", "limit", "seen", ""):
        table.add_column(name, overflow="fold")
    for promise in promises:
        mark = "[green]held[/]" if promise.held else "[red]broken[/]"
        table.add_row(promise.name, promise.limit, promise.seen, mark)
    return table


def outcome(promises: Sequence[Promise], loads: tuple[float, float]) -> str:
    """How many promises held; where one did not, with a hint at what else the machine had to do.

    Args:
        promises: as judged.
        loads: load average over a minute before the run, and at its end.
    """
    held = sum(promise.held for promise in promises)
    text = f"{held} of {len(promises)} promises held"
    if held == len(promises):
        return text
    before, after = loads
    return (
        f"{text}; load average {before:.1f} before the run and {after:.1f} at its end, on {usable_cores()} "
        "cores: where others keep the cores busy, outputs come late; run it again on an idle machine"
    )


def facts(given: argparse.Namespace, evidence: Evidence) -> dict[str, str]:
    """What ran, for the report."""
    seconds = 0.0
    if evidence.outputs:
        seconds = (evidence.outputs[-1].published_ns - evidence.outputs[0].published_ns) / 1e9
    return {
        "model": str(given.model),
        "fault script": str(given.faults),
        "sensors": f"{given.rate:g} Hz each, simulated, seed {given.seed}",
        "outputs": f"{len(evidence.outputs)} in {seconds:.0f} s",
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": f"robust_perception {__version__}, Python {platform.python_version()}",
        "made": time.strftime("%Y-%m-%d %H:%M"),
    }


if __name__ == "__main__":
    sys.exit(main())
