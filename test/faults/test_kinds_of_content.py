"""What the faults of arrival and of content do, one by one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from robust_perception.faults.errors import FaultError
from robust_perception.faults.kinds import KINDS, Fault
from robust_perception.faults.script import FaultScript
from robust_perception.faults.severities import (
    KINDS_MEASURED,
    NOISE,
    SEVERITIES,
    TABLE,
    generated,
    script_of_all,
)
from robust_perception.preprocess import prepare
from robust_perception.vocabulary import MODALITIES, Modality, SensorFrame

RATE = 10.0
FRAMES = 200


def frame(modality: Modality, t: float) -> SensorFrame:
    """A frame of many values."""
    generator = np.random.default_rng(4)
    values = {
        Modality.RGB: generator.integers(20, 200, (48, 64, 3), np.uint8),
        Modality.DEPTH: generator.uniform(0.5, 5, (48, 64)).astype(np.float32),
        Modality.THERMAL: generator.uniform(290, 310, (48, 64)).astype(np.float32),
        Modality.AUDIO: generator.uniform(-0.3, 0.3, 16000).astype(np.float32),
    }
    return SensorFrame(modality, values[modality], 10_000_000_000 + round(t * 1e9), "here")


def once(kind: str, sensor: Modality, t: float = 1.5, **values: float) -> np.ndarray:
    """The values of a frame under one fault from 1 s on."""
    script = FaultScript([Fault(1.0, 90.0, sensor, kind, values)], seed=5)
    (delivery,) = script.apply(frame(sensor, t), t)
    return delivery.frame.data


def arrivals(kind: str, **values: float) -> list[tuple[float, float]]:
    """(measured, arrived) seconds of what arrives of a sensor at 10 Hz."""
    script = FaultScript([Fault(0.0, 90.0, Modality.DEPTH, kind, values)], seed=5)
    times = [i / RATE for i in range(FRAMES)]
    return [(t, t + d.delay_s) for t in times for d in script.apply(frame(Modality.DEPTH, t), t)]


def test_a_part_of_the_frames_is_dropped_and_the_script_knows_which() -> None:
    script = FaultScript([Fault(0.0, 90.0, Modality.DEPTH, "drop", {"part": 0.3})], seed=5)
    there = {t for t, _ in arrivals("drop", part=0.3)}
    assert 0.6 < len(there) / FRAMES < 0.8
    for i in range(FRAMES):
        assert (i / RATE in there) == (Modality.DEPTH not in script.silent(i / RATE))
    assert arrivals("drop", part=0.0) == [(i / RATE, i / RATE) for i in range(FRAMES)]
    assert arrivals("drop", part=1.0) == []


def test_jitter_is_spread_over_its_range() -> None:
    delays = [arrived - t for t, arrived in arrivals("jitter", seconds=0.08)]
    assert len(delays) == FRAMES
    assert 0 <= min(delays) < 0.01
    assert 0.07 < max(delays) <= 0.08
    assert np.mean(delays) == pytest.approx(0.04, abs=0.006)


def test_reordered_frames_are_overtaken() -> None:
    got = arrivals("reorder", part=0.2, seconds=0.15)
    late = [arrived - t > 0.1 for t, arrived in got]
    assert 0.12 < np.mean(late) < 0.28
    order = [t for t, _ in sorted(got, key=lambda pair: pair[1])]
    assert order != sorted(order)


def test_a_clock_that_is_off_changes_the_stamp_alone() -> None:
    script = FaultScript([Fault(1.0, 2.0, Modality.RGB, "clock", {"seconds": -0.25})])
    sent = frame(Modality.RGB, 1.5)
    (delivery,) = script.apply(sent, 1.5)
    assert delivery.frame.stamp_ns == sent.stamp_ns - 250_000_000
    assert delivery.frame.data is sent.data
    assert delivery.delay_s == 0


def test_overexposure_cuts_off_at_white() -> None:
    sent = frame(Modality.RGB, 1.5).data
    np.testing.assert_array_equal(
        once("overexposure", Modality.RGB, gain=4.0), np.minimum(sent.astype(int) * 4, 255)
    )


@pytest.mark.parametrize("modality", [Modality.RGB, Modality.DEPTH, Modality.THERMAL])
def test_dead_rows_stay_the_same_throughout_the_window(modality: Modality) -> None:
    sent = frame(modality, 1.5).data
    damaged = [once("dead_rows", modality, t, part=0.25) for t in (1.0, 7.3)]
    np.testing.assert_array_equal(*damaged)
    changed = ~np.array([np.array_equal(a, b) for a, b in zip(sent, damaged[0], strict=True)])
    assert changed.sum() == 12
    nothing = {Modality.RGB: 0, Modality.DEPTH: np.nan, Modality.THERMAL: sent.min()}[modality]
    np.testing.assert_array_equal(damaged[0][changed], np.full_like(damaged[0][changed], nothing))


def test_holes_take_their_part_in_patches() -> None:
    holed = np.isnan(once("holes", Modality.DEPTH, part=0.3))
    assert holed.mean() == pytest.approx(0.3, abs=0.01)
    neighbours = (holed[:, 1:] == holed[:, :-1]).mean()
    assert neighbours > 0.9, "patches, not single pixels"
    assert not np.array_equal(holed, np.isnan(once("holes", Modality.DEPTH, 1.6, part=0.3)))
    assert not np.isnan(once("holes", Modality.DEPTH, part=0.0)).any()
    assert np.isnan(once("holes", Modality.DEPTH, part=1.0)).all()


def test_a_shutter_stands_still_at_the_start_of_every_period() -> None:
    script = FaultScript([Fault(1.0, 9.0, Modality.THERMAL, "shutter", {"period": 2.0, "seconds": 0.5})])
    shown = {}
    for i in range(90):
        t = i / 10
        sent = SensorFrame(Modality.THERMAL, np.full((2, 2), i, np.float32), i)
        (delivery,) = script.apply(sent, t)
        assert delivery.frame.stamp_ns == i
        shown[i] = int(delivery.frame.data[0, 0])
    assert [shown[i] for i in range(10, 17)] == [10, 10, 10, 10, 10, 15, 16]
    assert [shown[i] for i in range(29, 37)] == [29, 30, 30, 30, 30, 30, 35, 36]


def test_drift_grows_and_then_stays() -> None:
    sent = frame(Modality.THERMAL, 1.5).data
    for t, off in ((1.0, 0.0), (2.0, 2.0), (3.0, 4.0), (50.0, 4.0)):
        np.testing.assert_allclose(
            once("drift", Modality.THERMAL, t, kelvin=4.0, seconds=2.0) - sent, off, atol=1e-4
        )


def changed(sent: SensorFrame, kind: str, **values: float) -> np.ndarray:
    """The values of a frame under one fault that has lasted for 2 s."""
    (delivery,) = FaultScript([Fault(0.0, 9.0, sent.modality, kind, values)], seed=5).apply(sent, 2.0)
    return delivery.frame.data


def test_kelvin_of_a_picture_without_temperatures_are_its_grey_values() -> None:
    grey = SensorFrame(Modality.THERMAL, np.full((90, 90), 100, np.float32), 1, radiometric=False)
    was = prepare(grey, (90, 90))

    def kelvin(data: np.ndarray) -> np.ndarray:
        return prepare(replace(grey, data=data), (90, 90)) - was

    np.testing.assert_allclose(kelvin(changed(grey, "drift", kelvin=12.0, seconds=1.0)), 12.0, atol=1e-3)
    assert kelvin(changed(grey, "noise", sigma=4.0)).std() == pytest.approx(4.0, rel=0.05)
    assert changed(grey, "drift", kelvin=90.0, seconds=1.0).max() == 255, "white is as hot as it gets"


@pytest.mark.parametrize("kind", ["noise", "drift"])
def test_what_would_be_colder_than_absolute_zero_is_no_measurement(kind: str) -> None:
    kelvin = np.linspace(80, 300, 64, dtype=np.float32).repeat(48).reshape(64, 48).T
    sent = SensorFrame(Modality.THERMAL, np.ascontiguousarray(kelvin), 1)
    values = {"noise": {"sigma": 200.0}, "drift": {"kelvin": -100.0, "seconds": 0.0}}[kind]
    data = changed(sent, kind, **values)
    measured = np.isfinite(data)
    assert 0.05 < 1 - measured.mean() < 0.5
    assert data[measured].min() > 0
    known = prepare(replace(sent, data=data), (48, 64))
    np.testing.assert_allclose(known[~measured], data[measured].mean(), rtol=1e-5)
    if kind == "drift":
        np.testing.assert_array_equal(measured, kelvin > 100)


def test_a_pixel_without_a_temperature_gets_none_from_a_fault() -> None:
    sent = frame(Modality.THERMAL, 1.0)
    sent.data[3:5] = np.nan
    for kind, values in (("noise", {"sigma": 2.0}), ("drift", {"kelvin": 4.0, "seconds": 0.0})):
        np.testing.assert_array_equal(np.isnan(changed(sent, kind, **values)), np.isnan(sent.data))


def test_darkness_leaves_the_noise_of_the_camera_as_it_was() -> None:
    noise = 3 * np.random.default_rng(0).standard_normal((200, 200, 3))
    sent = SensorFrame(Modality.RGB, np.rint(128 + noise).astype(np.uint8), 1)
    for gain in (1.0, 0.5, 0.3):
        assert changed(sent, "darkness", gain=gain).std() == pytest.approx(3.0, rel=0.03)


def test_a_dead_thermal_pixel_does_no_harm_beside_itself() -> None:
    image = np.linspace(290, 310, 64, dtype=np.float32).reshape(8, 8)
    image[3, 0] = np.nan
    sent = SensorFrame(Modality.THERMAL, image, 1)
    assert np.isnan(changed(sent, "smoke", density=0.1)).sum() == 1
    dead = changed(sent, "dead_rows", part=0.5)
    assert (dead == 290.0).all(axis=1).sum() == 4


def test_clipping_is_flat_at_full_scale_and_gaps_are_silence() -> None:
    loud = once("clipping", Modality.AUDIO, gain=15.0)
    assert np.abs(loud).max() == 1.0
    assert (np.abs(loud) == 1.0).mean() > 0.5
    quiet = once("gaps", Modality.AUDIO, part=0.3).reshape(-1, 320)
    silent = (quiet == 0).all(axis=1)
    assert 0.1 < silent.mean() < 0.5
    np.testing.assert_array_equal(quiet[~silent], frame(Modality.AUDIO, 1.5).data.reshape(-1, 320)[~silent])


@pytest.mark.parametrize("kind", KINDS_MEASURED)
def test_every_kind_has_three_severities_on_every_sensor_it_fits(kind: str) -> None:
    for sensor in KINDS[kind].sensors:
        scripts = [generated(kind, severity, [sensor], 8.0) for severity in SEVERITIES]
        assert all(fault.kind == kind for script in scripts for fault in script.faults)
        active = [sum(f.until - f.at for f in script.faults) for script in scripts]
        strengths = [tuple(script.faults[0].values.values()) for script in scripts]
        assert active == sorted(active)
        assert len({*zip(active, strengths, strict=True)}) == 3, "no two severities are the same"


def test_the_table_is_complete_and_says_what_is_missing() -> None:
    assert set(TABLE) | {"noise"} == set(KINDS_MEASURED)
    assert set(NOISE) == set(MODALITIES)
    with pytest.raises(FaultError, match="severity: expected one of mild, moderate, severe, got 'fatal'"):
        generated("loss", "fatal", [Modality.RGB], 1.0)
    with pytest.raises(FaultError, match="fault: expected one of loss, flap"):
        generated("return", "mild", [Modality.RGB], 1.0)
    with pytest.raises(FaultError, match="sensor: expected one of thermal for drift"):
        generated("drift", "mild", [Modality.RGB], 1.0)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_the_shipped_scripts_are_those_of_the_table(severity: str, repository: Path) -> None:
    path = repository / "config" / "faults" / f"{severity}.yaml"
    made = script_of_all(severity)
    assert path.read_text(encoding="utf-8") == made, (
        "run python -m robust_perception.faults.severities, see the head of the file"
    )
    assert {fault.kind for fault in FaultScript.load(path).faults} == set(KINDS_MEASURED)


def test_the_page_tells_of_every_kind_and_its_keys(repository: Path) -> None:
    page = (repository / "docs" / "faults.md").read_text(encoding="utf-8")
    rows = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}
    assert list(rows) == list(KINDS)
    for name, kind in KINDS.items():
        _, _, sensors, keys, _, _ = rows[name].split("|")
        named = "all" if kind.sensors == MODALITIES else ", ".join(m.value for m in kind.sensors)
        assert sensors.strip() == named
        assert [key.strip("` ") for key in keys.split(",") if key.strip()] == [key for key, _, _ in kind.keys]
