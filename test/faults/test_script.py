"""Fault kinds one by one, and what must hold of any schedule."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robust_perception.faults.demo import demo_script
from robust_perception.faults.errors import FaultError, ScriptNotFoundError
from robust_perception.faults.find import find_script
from robust_perception.faults.script import KINDS, Fault, FaultScript
from robust_perception.vocabulary import ALL_PATTERNS, MODALITIES, Modality, Pattern, SensorFrame

RATE = 10.0


@pytest.mark.parametrize("name", ["~nobody_of_this_name/x.yaml", "x" * 5000, "nowhere"])
def test_a_name_that_is_no_script_is_told_with_those_that_are(name: str) -> None:
    with pytest.raises(ScriptNotFoundError, match=r"expected a file, or one of .*demo.*, got '[~xn]"):
        find_script(name)


def frame(modality: Modality, t: float) -> SensorFrame:
    """A frame whose content tells its time."""
    shade = round(t * RATE) % 100
    values = {
        Modality.RGB: np.full((12, 16, 3), 100 + shade, np.uint8),
        Modality.DEPTH: np.full((12, 16), 2.0 + shade / 100, np.float32),
        Modality.THERMAL: np.linspace(290, 310, 192, dtype=np.float32).reshape(12, 16) + shade,
        Modality.AUDIO: np.full(160, shade / 200, np.float32),
    }
    return SensorFrame(modality, values[modality], round(t * 1e9), "here")


def script(
    kind: str, sensor: Modality = Modality.RGB, at: float = 1.0, until: float = 2.0, **values: float
) -> FaultScript:
    return FaultScript([Fault(at, until, sensor, kind, values)], seed=5)


def arrivals(faults: FaultScript, modality: Modality, end: float = 3.0) -> dict[float, list[SensorFrame]]:
    times = [i / RATE for i in range(round(end * RATE))]
    return {t: [d.frame for d in faults.apply(frame(modality, t), t)] for t in times}


def test_no_fault_hands_on_the_very_frame() -> None:
    for modality in MODALITIES:
        sent = frame(modality, 1.0)
        (delivery,) = FaultScript().apply(sent, 1.0)
        assert delivery.frame is sent
        assert delivery.delay_s == 0.0


def test_loss_and_its_end() -> None:
    got = arrivals(script("loss"), Modality.RGB)
    assert {t for t, frames in got.items() if not frames} == {i / RATE for i in range(10, 20)}
    assert all(arrivals(script("loss"), Modality.DEPTH).values())


def test_flap_loses_first_and_keeps_its_duty() -> None:
    got = arrivals(script("flap", until=3.0, period=1.0, duty=0.3), Modality.RGB)
    there = [t for t, frames in got.items() if frames and t >= 1.0]
    assert there == [1.7, 1.8, 1.9, 2.7, 2.8, 2.9]


def test_freeze_repeats_the_content_under_live_stamps() -> None:
    got = arrivals(script("freeze", Modality.AUDIO), Modality.AUDIO)
    for t in (1.0, 1.4, 1.9):
        np.testing.assert_array_equal(got[t][0].data, frame(Modality.AUDIO, 1.0).data)
        assert got[t][0].stamp_ns == round(t * 1e9)
    np.testing.assert_array_equal(got[2.0][0].data, frame(Modality.AUDIO, 2.0).data)


def test_freeze_stamp_repeats_the_stamp_as_well() -> None:
    got = arrivals(script("freeze_stamp"), Modality.RGB)
    assert {got[t][0].stamp_ns for t in (1.0, 1.4, 1.9)} == {1_000_000_000}
    assert got[2.0][0].stamp_ns == 2_000_000_000


def test_a_freeze_starts_afresh_when_time_goes_back() -> None:
    frozen = script("freeze")
    frozen.apply(frame(Modality.RGB, 1.5), 1.5)
    frozen.apply(frame(Modality.RGB, 0.0), 0.0)
    (delivery,) = frozen.apply(frame(Modality.RGB, 1.2), 1.2)
    np.testing.assert_array_equal(delivery.frame.data, frame(Modality.RGB, 1.2).data)
    frozen.reset()
    (delivery,) = frozen.apply(frame(Modality.RGB, 1.8), 1.8)
    np.testing.assert_array_equal(delivery.frame.data, frame(Modality.RGB, 1.8).data)


def test_delays_add_and_leave_the_stamp() -> None:
    slow = FaultScript([Fault(0, 5, Modality.DEPTH, "delay", {"seconds": s}) for s in (0.2, 0.3)])
    (delivery,) = slow.apply(frame(Modality.DEPTH, 1.0), 1.0)
    assert delivery.delay_s == pytest.approx(0.5)
    assert delivery.frame.stamp_ns == 1_000_000_000


@pytest.mark.parametrize(
    ("modality", "sigma"),
    [(Modality.RGB, 20.0), (Modality.DEPTH, 0.1), (Modality.THERMAL, 2.0), (Modality.AUDIO, 0.1)],
)
def test_noise_is_in_the_units_of_the_sensor(modality: Modality, sigma: float) -> None:
    sent = frame(modality, 1.0)
    (delivery,) = script("noise", modality, sigma=sigma).apply(sent, 1.0)
    difference = delivery.frame.data.astype(float) - sent.data.astype(float)
    assert difference.std() == pytest.approx(sigma, rel=0.25)
    assert delivery.frame.data.dtype == sent.data.dtype


def test_noise_keeps_holes_in_depth() -> None:
    sent = frame(Modality.DEPTH, 1.0)
    sent.data[3:5] = np.nan
    (delivery,) = script("noise", Modality.DEPTH, sigma=0.1).apply(sent, 1.0)
    np.testing.assert_array_equal(np.isnan(delivery.frame.data), np.isnan(sent.data))


def test_darkness_takes_the_light() -> None:
    (delivery,) = script("darkness", gain=0.02).apply(frame(Modality.RGB, 1.0), 1.0)
    assert delivery.frame.data.mean() < 8
    assert delivery.frame.data.std() > 0.5


def test_smoke_veils_colour_eats_depth_and_spares_heat() -> None:
    def through(modality: Modality, density: float) -> np.ndarray:
        (delivery,) = script("smoke", modality, density=density).apply(frame(modality, 1.0), 1.0)
        return delivery.frame.data

    rgb = [through(Modality.RGB, density).mean() for density in (0.0, 0.3, 2.0)]
    assert rgb == sorted(rgb)
    assert rgb[0] == 110
    assert rgb[2] == pytest.approx(190, abs=8)
    holes = [np.isnan(through(Modality.DEPTH, density)).mean() for density in (0.0, 0.3, 2.0)]
    assert holes[0] == 0
    assert 0.3 < holes[1] < holes[2]
    sent = frame(Modality.THERMAL, 1.0).data
    assert through(Modality.THERMAL, 1.0).std() > 0.7 * sent.std()


def test_windows_act_in_the_order_of_the_script() -> None:
    freeze = Fault(1.0, 3.0, Modality.RGB, "freeze")
    dark = Fault(0.0, 3.0, Modality.RGB, "darkness", {"gain": 0.0})
    frozen_light = FaultScript([freeze, dark])
    frozen_dark = FaultScript([dark, freeze])
    pictures = {}
    for name, faults in (("light", frozen_light), ("dark", frozen_dark)):
        pictures[name] = [faults.apply(frame(Modality.RGB, t), t)[0].frame.data for t in (1.0, 1.1)]
    # Noise that darkness adds after the freeze lives on; added before, it is frozen too.
    assert not np.array_equal(*pictures["light"])
    assert np.array_equal(*pictures["dark"])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"kind": "los"}, "fault: expected one of loss, flap"),
        ({"kind": "return"}, "fault: expected one of loss, flap"),
        (
            {"kind": "darkness", "sensor": Modality.DEPTH, "values": {"gain": 0.1}},
            "sensor: expected one of rgb",
        ),
        ({"at": -1.0}, "at: expected seconds >= 0"),
        ({"at": math.nan}, "at: expected seconds >= 0"),
        ({"until": 1.0}, "until: expected seconds after at = 1"),
        ({"kind": "flap", "values": {"period": 1.0}}, r"expected the keys \['period', 'duty'\]"),
        ({"kind": "flap", "values": {"period": 0.0, "duty": 0.5}}, "period: expected a number from 0.05"),
    ],
)
def test_a_wrong_fault_is_named(wrong: dict[str, object], said: str) -> None:
    right = {"at": 1.0, "until": 2.0, "sensor": Modality.RGB, "kind": "loss", "values": {}}
    with pytest.raises(FaultError, match=said):
        Fault(**(right | wrong))  # type: ignore[arg-type]


@st.composite
def faults(draw: st.DrawFn) -> Fault:
    kind = draw(st.sampled_from([k for k in KINDS if k != "return"]))
    at = draw(st.floats(0, 4))
    until = draw(st.one_of(st.just(math.inf), st.floats(0.01, 4).map(lambda d: at + d)))
    values = {n: draw(st.floats(low, min(high, 2.0))) for n, low, high in KINDS[kind].keys}
    return Fault(at, until, draw(st.sampled_from(KINDS[kind].sensors)), kind, values)


schedules = st.lists(faults(), max_size=6)
instants = st.floats(0, 9)


@given(schedules, st.integers(0, 2**31), st.lists(instants, max_size=12), st.sampled_from(MODALITIES))
@settings(max_examples=60)
def test_the_same_script_and_frames_give_the_same(
    windows: list[Fault], seed: int, times: list[float], modality: Modality
) -> None:
    runs = []
    for _ in range(2):
        faulty = FaultScript(windows, seed)
        runs.append([faulty.apply(frame(modality, t), t) for t in times])
    for one, other in zip(*runs, strict=True):
        assert [d.delay_s for d in one] == [d.delay_s for d in other]
        assert [d.frame.stamp_ns for d in one] == [d.frame.stamp_ns for d in other]
        assert [d.frame.data.tobytes() for d in one] == [d.frame.data.tobytes() for d in other]


@given(schedules, instants, st.sampled_from(MODALITIES))
@settings(max_examples=150)
def test_what_arrives_is_one_good_frame_exactly_when_not_silent(
    windows: list[Fault], t: float, modality: Modality
) -> None:
    faulty = FaultScript(windows)
    sent = frame(modality, t)
    before = sent.data.copy()
    got = faulty.apply(sent, t)
    assert len(got) == (modality not in faulty.silent(t))
    np.testing.assert_array_equal(sent.data, before)
    for delivery in got:
        assert delivery.frame.modality is modality
        assert delivery.frame.data.shape == sent.data.shape
        assert delivery.frame.data.dtype == sent.data.dtype
        assert delivery.delay_s >= 0
        if not any(fault.sensor is modality for fault in faulty.active(t)):
            assert delivery.frame is sent


@given(schedules, instants)
def test_losses_cover_exactly_what_loss_silences(windows: list[Fault], t: float) -> None:
    only_losses = FaultScript([replace(f, kind="loss", values={}) for f in windows])
    for modality in MODALITIES:
        stretches = only_losses.losses(modality)
        assert (modality in only_losses.silent(t)) == any(start <= t < end for start, end in stretches)
        assert all(a[1] < b[0] for a, b in pairwise(stretches))


def test_the_demo_loses_every_sensor_ten_times_and_visits_every_pattern(repository: Path) -> None:
    path = repository / "config" / "faults" / "demo.yaml"
    assert path.read_text(encoding="utf-8") == demo_script(), "run python -m robust_perception.faults.demo"
    demo = FaultScript.load(path)
    assert 70 <= demo.end_s <= 90
    visited: dict[frozenset[Modality], float] = {}
    for step in range(round(demo.end_s * 20)):
        there = frozenset(MODALITIES) - demo.silent(step / 20)
        visited[there] = visited.get(there, 0.0) + 1 / 20
    assert {Pattern.of(there) for there in visited if there} == set(ALL_PATTERNS)
    assert min(visited.values()) >= 0.4
    assert visited[frozenset()] >= 1.5
    for modality in MODALITIES:
        losses = demo.losses(modality)
        assert len(losses) >= 10
        assert all(end - start >= 1.0 for start, end in losses)
        assert all(b[0] - a[1] >= 1.5 for a, b in pairwise(losses))
    assert {fault.kind for fault in demo.faults} == {"loss", "darkness", "smoke", "freeze", "noise"}
