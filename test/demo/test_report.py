"""The page and its picture: well-formed, self-contained, and saying what was seen."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import graph_of_paper as paper
import numpy as np
import pytest
from graph_of_paper import LIMITS, ORIGIN
from rich.console import Console

from robust_perception.demo import report, timeline
from robust_perception.demo.film import jpeg
from robust_perception.demo.promises import Promise, judge
from robust_perception.demo.record import Evidence
from robust_perception.demo.table import LiveTable, headline
from robust_perception.faults.file import parse
from robust_perception.faults.script import FaultScript
from robust_perception.vocabulary import Modality

SCRIPT = """
faults:
  - {at: 2.0, until: 3.2, sensor: rgb, fault: loss}
  - {at: 5.0, until: 6.0, sensor: all, fault: loss}
  - {at: 7.0, until: 8.0, sensor: rgb, fault: darkness, gain: 0.1}
"""


@pytest.fixture
def script() -> FaultScript:
    faults, seed = parse(SCRIPT, "script")
    return FaultScript(faults, seed, "<script>")


@pytest.fixture
def seen(script: FaultScript) -> Evidence:
    return paper.evidence(script, 10.0)


def test_stretches_join_and_end_where_output_ends(seen: Evidence) -> None:
    found = list(timeline.stretches(seen.outputs, Modality.RGB, ORIGIN))
    parts = [part for _, _, part in found]
    assert parts[:3] == [True, False, True]
    lost = found[1]
    assert lost[0] == pytest.approx(2.24)
    assert lost[1] == pytest.approx(3.34)
    blackout = [end for _, end, _ in found if 5.0 < end < 6.5]
    assert blackout, "a stretch ends in the blackout"


def test_changes_begin_with_the_first_output(seen: Evidence) -> None:
    changes = timeline.changes(seen.outputs)
    assert changes[0][0] is None
    assert all(before != output.pattern for before, output in changes)
    assert str(changes[1][1].pattern) == "depth+thermal+audio"


def test_the_timeline_is_well_formed_and_names_the_faults(seen: Evidence, script: FaultScript) -> None:
    svg = timeline.draw(seen, script, 300.0)
    root = ElementTree.fromstring(svg)
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"rgb", "audio", "agreement", "latency", "darkness"} <= set(texts)
    width, height = (float(v) for v in root.attrib["viewBox"].split()[2:])
    for element in root.iter("{http://www.w3.org/2000/svg}text"):
        assert 0 <= float(element.attrib["x"]) <= width
        assert 0 <= float(element.attrib["y"]) <= height


def test_a_fault_without_an_end_is_drawn_to_the_end(seen: Evidence) -> None:
    faults, seed = parse("faults: [{at: 3.0, sensor: rgb, fault: darkness, gain: 0.02}]", "night")
    svg = timeline.draw(seen, FaultScript(faults, seed), 300.0)
    (bar,) = [r for r in ElementTree.fromstring(svg).iter() if r.get("class") == "fault"]
    assert float(bar.get("x", "0")) + float(bar.get("width", "0")) == timeline.WIDTH - timeline.RIGHT
    assert [title.text for title in bar] == ["darkness, 3.0 s on"]


def test_an_empty_run_still_has_a_timeline(script: FaultScript) -> None:
    ElementTree.fromstring(timeline.draw(Evidence(), script, 300.0))


def test_the_page_holds_everything_and_asks_for_nothing(
    seen: Evidence, script: FaultScript, tmp_path: Path
) -> None:
    promises = [*judge(seen, LIMITS, script), Promise("told & kept", "<1", "2", False)]
    run = report.Run(seen, script, LIMITS, promises, {"model": "default <b>", "machine": "2 cores"})
    pictures = {
        (o.stamp_ns, o.turn): jpeg(np.full((24, 32, 3), 90, np.uint8))
        for _, o in timeline.changes(seen.outputs)
    }
    report.write(tmp_path / "report.html", run, pictures, None)
    page = (tmp_path / "report.html").read_text()
    assert f"{len(promises) - 1} of {len(promises)} promises held" in page
    assert "told &amp; kept" in page
    assert "default &lt;b&gt;" in page
    assert page.count("data:image/jpeg;base64,") == len(pictures)
    assert "rgb lost: depth+thermal+audio" in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page), "nothing is loaded from elsewhere"
    parser = HTMLParser()
    parser.feed(page)


def test_the_numbers_are_those_of_the_run(seen: Evidence, script: FaultScript, tmp_path: Path) -> None:
    promises = judge(seen, LIMITS, script)
    run = report.Run(seen, script, LIMITS, promises, {"model": "default"})
    report.write_numbers(tmp_path / "report.json", run)
    numbers = json.loads((tmp_path / "report.json").read_text())
    assert [p["name"] for p in numbers["promises"]] == [p.name for p in promises]
    rgb = next(loss for loss in numbers["losses"] if loss["sensor"] == "rgb")
    assert (rgb["last_s"], rgb["first_s"], rgb["frames_back"]) == (1.9, 3.2, 2)
    assert rgb["degraded_ms"] == pytest.approx(340.0)


def test_rows_count_every_output(seen: Evidence) -> None:
    rows = report.rows(seen)
    assert sum(row.outputs for row in rows) == len(seen.outputs)
    assert rows[0].pattern == "rgb+depth+thermal+audio"
    assert rows[0].latency == "40"


def test_the_headline_says_what_is_and_when_nothing_is(seen: Evidence) -> None:
    last = seen.outputs[-1]
    told = headline(seen.outputs[-20:], last.published_ns + 1)
    assert told.startswith("rgb+depth+thermal+audio")
    assert "80 % mIoU" in told
    assert headline(seen.outputs[-20:], last.published_ns + 2_000_000_000) == "no output"


def test_the_table_draws_in_a_terminal_and_prints_lines_elsewhere(
    seen: Evidence, script: FaultScript
) -> None:
    now = seen.outputs[-1].published_ns
    terminal = Console(force_terminal=True, width=120, record=True)
    with LiveTable(terminal, script, 10.0) as table:
        table.show(seen, now)
    plain = Console(force_terminal=False, width=200, record=True)
    with LiveTable(plain, script, 10.0) as table:
        table.show(seen, now)
        table.show(seen, now + 1)
    lines = plain.export_text().splitlines()
    assert len(lines) == 1, "a line every few seconds, not every look"
    assert "left: rgb+depth+thermal+audio" in lines[0]
