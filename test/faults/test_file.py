"""Fault scripts on disk, and how their mistakes are told."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from robust_perception.faults.errors import FaultError
from robust_perception.faults.file import parse
from robust_perception.faults.script import KINDS, FaultScript
from robust_perception.vocabulary import MODALITIES, Modality

KNOWN = ["all_lost", "demo", "flapping", "mild", "moderate", "night", "none", "severe", "smoke"]


def test_every_shipped_script_is_tested(repository: Path) -> None:
    assert sorted(p.stem for p in (repository / "config" / "faults").glob("*.yaml")) == KNOWN


@pytest.mark.parametrize("name", KNOWN)
def test_shipped_scripts_load(name: str, repository: Path) -> None:
    path = repository / "config" / "faults" / f"{name}.yaml"
    script = FaultScript.load(path)
    assert bool(script.faults) == (name != "none")
    assert path.read_text(encoding="utf-8").startswith("#")


def test_all_lost_really_loses_all(repository: Path) -> None:
    script = FaultScript.load(repository / "config" / "faults" / "all_lost.yaml")
    assert script.silent(10.0) == frozenset(MODALITIES)
    assert script.silent(script.end_s) == frozenset()


def test_a_return_ends_open_faults_of_its_sensors_only() -> None:
    faults, seed = parse(
        """
seed: 4
faults:
  - {at: 1, sensor: [rgb, depth], fault: loss}
  - {at: 2, until: 9, sensor: rgb, fault: freeze}
  - {at: 3.5, sensor: rgb, fault: return}
""",
        "x.yaml",
    )
    assert seed == 4
    assert [(f.sensor, f.kind, f.at, f.until) for f in faults] == [
        (Modality.RGB, "loss", 1.0, 3.5),
        (Modality.DEPTH, "loss", 1.0, math.inf),
        (Modality.RGB, "freeze", 2.0, 9.0),
    ]


def test_all_means_every_sensor_the_fault_fits() -> None:
    faults, _ = parse("faults: [{at: 0, sensor: all, fault: smoke, density: 1}]", "x.yaml")
    assert [f.sensor for f in faults] == [Modality.RGB, Modality.DEPTH, Modality.THERMAL]


HEAD = "seed: 1\nfaults:\n  - {at: 0.0, until: 1.0, sensor: rgb, fault: loss}\n  - "


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (
            "{at: 1, sensor: lidar, fault: loss}",
            "4: sensor: expected one of rgb, depth, thermal, audio, a list",
        ),
        (
            "{at: 1, sensor: rgb, fault: gone}",
            "4: fault: expected one of loss, return, flap, drop, delay, jitter",
        ),
        ("{at: soon, sensor: rgb, fault: loss}", "4: at: expected a number >= 0, got 'soon'"),
        ("{at: -1, sensor: rgb, fault: loss}", "4: at: expected a number >= 0, got -1"),
        ("{at: true, sensor: rgb, fault: loss}", "4: at: expected a number >= 0, got True"),
        ("{at: .nan, sensor: rgb, fault: loss}", "4: at: expected a number >= 0, got nan"),
        ("{at: .inf, sensor: rgb, fault: loss}", "4: at: expected a finite number, got inf"),
        (f"{{at: {'9' * 400}, sensor: rgb, fault: loss}}", "4: at: expected a finite number, got one too l"),
        ("{at: 3, until: 2, sensor: rgb, fault: loss}", "4: until: expected seconds after at = 3, got 2.0"),
        ("{sensor: rgb, fault: loss}", "4: at: expected this key, got none"),
        (
            "{at: 1, sensor: rgb, fault: delay}",
            "4: seconds: expected a number from 0 to 60 for delay, got none",
        ),
        (
            "{at: 1, sensor: rgb, fault: flap, period: 1, duty: 2}",
            "4: duty: expected a number from 0 to 1, got 2",
        ),
        (
            "{at: 1, sensor: rgb, fault: loss, gain: 1}",
            "4: gain: expected for loss only the keys at, until, sensor",
        ),
        (
            "{at: 1, sensor: rgb, fault: loss, colour: 1}",
            "4: colour: expected one of the keys at, until, sensor",
        ),
        ("{at: 1, at: 2, sensor: rgb, fault: loss}", "4: at: expected each key once, got it twice"),
        (
            "{at: 1, sensor: audio, fault: smoke, density: 1}",
            "4: sensor: expected one of rgb, depth, thermal for",
        ),
        ("{at: 1, sensor: [], fault: loss}", "4: sensor: expected one of rgb"),
        (
            "{at: 9, sensor: depth, fault: return}",
            "4: fault: expected an earlier fault of depth without 'until'",
        ),
        ("{at: 9, until: 10, sensor: rgb, fault: return}", "4: until: expected for return only the keys at"),
        (
            "{at: 1, sensor: rgb, fault: drop, part: 1.5}",
            "4: part: expected a number from 0 to 1, got 1.5",
        ),
        (
            "{at: 1, sensor: rgb, fault: overexposure, gain: 0.5}",
            "4: gain: expected a number from 1 to 1000, got 0.5",
        ),
        (
            "{at: 1, sensor: rgb, fault: shutter, period: 2, seconds: 1}",
            "4: sensor: expected one of thermal for shutter, got 'rgb'",
        ),
        (
            "{at: 1, sensor: rgb, fault: reorder, part: 0.5}",
            "4: seconds: expected a number from 0 to 60 for reorder, got none",
        ),
        ("rgb", "4: a fault: expected keys and values"),
        ("{at: 1, sensor: rgb, fault: loss", "5: expected YAML, got a mistake in it"),
        ("{at: !!python/object:os.system 1, sensor: rgb, fault: loss}", "4: value: expected plain YAML"),
        (
            "\n    at: 1\n    sensor: rgb\n    fault: loss\n    until: never",
            "8: until: expected a number >= 0",
        ),
    ],
)
def test_mistakes_are_told_with_file_line_and_key(entry: str, said: str) -> None:
    with pytest.raises(FaultError) as caught:
        parse(HEAD + entry + "\n", "demo.yaml")
    assert str(caught.value).startswith(f"demo.yaml:{said}"), str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "demo.yaml:1: expected 'faults' with a list, got an empty file"),
        ("seed: 1", "demo.yaml:1: faults: expected a list, got none"),
        ("faults: 3", "demo.yaml:1: faults: expected a list, got 3"),
        ("seed: x\nfaults: []", "demo.yaml:1: seed: expected an integer >= 0, got 'x'"),
        ("- 1", "demo.yaml:1: the file: expected keys and values, out of seed, faults"),
        ("faults: []\nfualts: []", "demo.yaml:2: fualts: expected one of the keys seed, faults"),
    ],
)
def test_mistakes_of_the_whole_file(text: str, said: str) -> None:
    with pytest.raises(FaultError) as caught:
        parse(text, "demo.yaml")
    assert str(caught.value).startswith(said)


def test_a_missing_or_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FaultError, match=r"none\.yaml: expected a readable YAML file"):
        FaultScript.load(tmp_path / "none.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FaultError, match=r"bytes\.yaml: expected a readable YAML file"):
        FaultScript.load(tmp_path / "bytes.yaml")


@st.composite
def entries(draw: st.DrawFn) -> dict[str, object]:
    kind = draw(st.sampled_from([k for k in KINDS if k != "return"]))
    at = draw(st.floats(0, 100))
    entry: dict[str, object] = {"fault": kind, "at": at}
    if draw(st.booleans()):
        entry["until"] = at + draw(st.floats(0.01, 100))
    names = [m.value for m in KINDS[kind].sensors]
    entry["sensor"] = draw(st.sampled_from([*names, names, "all"]))
    return entry | {n: draw(st.floats(low, high)) for n, low, high in KINDS[kind].keys}


@given(st.lists(entries(), max_size=8), st.integers(0, 2**40))
def test_any_valid_script_reads_back_as_it_was(listed: list[dict[str, object]], seed: int) -> None:
    faults, read_seed = parse(yaml.safe_dump({"seed": seed, "faults": listed}), "x.yaml")
    assert read_seed == seed
    expected = []
    for entry in listed:
        kind = KINDS[str(entry["fault"])]
        sensors = (
            kind.sensors
            if entry["sensor"] == "all" or isinstance(entry["sensor"], list)
            else [entry["sensor"]]
        )
        for sensor in sensors:
            values = {name: entry[name] for name, _, _ in kind.keys}
            expected.append((entry["at"], entry.get("until", math.inf), sensor, entry["fault"], values))
    assert [(f.at, f.until, f.sensor, f.kind, f.values) for f in faults] == expected


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=80))
def test_any_text_is_a_script_or_a_named_mistake(text: str) -> None:
    try:
        parse("faults:\n  - " + text, "x.yaml")
    except FaultError as error:
        assert str(error).startswith("x.yaml")


def test_a_number_is_one_in_whatever_way_it_is_written() -> None:
    """YAML 1.1 takes 1e1, without point and sign, for text."""
    (fault,), _ = parse(
        "faults: [{at: 1e1, until: 2E+1, sensor: rgb, fault: noise, sigma: 5e-1}]", "demo.yaml"
    )
    assert (fault.at, fault.until, fault.values["sigma"]) == (10.0, 20.0, 0.5)
    with pytest.raises(FaultError, match=r"demo\.yaml:1: at: expected a number >= 0, got '1e1'"):
        parse("faults: [{at: '1e1', sensor: rgb, fault: loss}]", "demo.yaml")


@pytest.mark.parametrize("deep", [10, 100, 150, 200, 300, 1000, 10_000])
@pytest.mark.parametrize(
    "place", ["NESTED", "faults: NESTED", "faults: [{at: NESTED, sensor: rgb, fault: loss}]"]
)
def test_what_is_nested_is_refused_in_words_however_deeply(deep: int, place: str) -> None:
    with pytest.raises(FaultError, match=r"^deep\.yaml:.* expected "):
        parse(place.replace("NESTED", "[" * deep + "]" * deep), "deep.yaml")
