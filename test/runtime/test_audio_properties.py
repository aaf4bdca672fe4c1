"""Sound in chunks of any length at any usual rate, some of them lost: what the window holds, and when.

The window says when its first sample was. At every instant of it that a message held, it is the sound of that
instant; elsewhere it is silent.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from robust_perception.presence import Synchronizer
from robust_perception.presence.config import SensorConfig, SynchronizerConfig
from robust_perception.runtime.audio import AudioFormat, AudioStream
from robust_perception.runtime.decoders import AudioDecoder
from robust_perception.vocabulary import AUDIO_RATE, Modality

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
RATES = (8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000)
MARGIN_S = 0.005
"""Beside the edges of what was heard, where the filter rings."""

LAG_NS = 2_500_000
"""Of the resampler's output behind its input."""

rates = st.sampled_from(RATES)
lengths_s = st.lists(st.floats(0.035, 0.25), min_size=2, max_size=30)


def sound(times: np.ndarray) -> np.ndarray:
    """Two tones that no rate here has in its transition band."""
    return 0.3 * np.sin(2 * np.pi * 440.0 * times) + 0.2 * np.sin(2 * np.pi * 1234.5 * times)


def heard_at(times: np.ndarray, spans: Sequence[tuple[float, float]], margin_s: float) -> np.ndarray:
    inside = [(first + margin_s <= times) & (times < last - margin_s) for first, last in spans]
    return np.any(inside, axis=0)


def joined(spans: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Spans of which none touches the next."""
    out: list[tuple[float, float]] = []
    for first, last in spans:
        if out and first == out[-1][1]:
            out[-1] = (out[-1][0], last)
        else:
            out.append((first, last))
    return out


@given(rates, lengths_s, st.data())
@example(44_100, [0.0464] * 20, None)
def test_the_window_is_the_sound_of_its_time_and_every_hole_is_counted(
    rate: int, seconds: list[float], data: st.DataObject | None
) -> None:
    stream = AudioStream(AudioFormat(rate, 1, "F32LE"))
    position, spans, holes, lost = 0, [], 0, False
    for index, length in enumerate(seconds):
        size = round(length * rate)
        first, position = position, position + size
        if index % 5 == 3 if data is None else data.draw(st.integers(0, 3)) == 0:
            lost = True
            continue
        holes += lost and bool(spans)
        lost = False
        spans.append((first / rate, position / rate))
        chunk = sound(np.arange(first, position) / rate).astype("<f4")
        window, first_ns = stream.push(chunk.tobytes(), START + first * SECOND // rate)

        behind_ns = START + position * SECOND // rate - (first_ns + SECOND)
        assert -2 <= behind_ns <= LAG_NS, "the stamp keeps to the sound's end"
        times = (first_ns - START) / SECOND + np.arange(AUDIO_RATE) / AUDIO_RATE
        whole = heard_at(times, joined(spans), MARGIN_S)
        silent = ~heard_at(times, spans, -MARGIN_S)
        assert np.abs(window[whole] - sound(times[whole])).max(initial=0.0) < 2e-3
        assert np.abs(window[silent]).max(initial=0.0) < 2e-3
        assert stream.gaps == holes


@given(
    rates,
    st.sampled_from([10, 20, 64, 100]),
    st.dictionaries(st.integers(2, 9), st.integers(1, 2)),
    st.lists(st.floats(0.0, 9.0), min_size=11, max_size=11),
)
def test_presence_counts_the_messages_that_are_missing(
    rate: int, chunk_ms: int, runs: dict[int, int], late_ms: list[float]
) -> None:
    """Whoever captures stamps a few ms late at times, which is no message less.

    Args:
        rate: samples a second.
        chunk_ms: length of a chunk.
        runs: how many of six messages are lost; more often, and the sensor's period would be another.
        late_ms: how late the fourth of every six is stamped.
    """
    lost = {6 * six + index for six, count in runs.items() for index in range(count)}
    decoder = AudioDecoder(AudioFormat(rate), lambda _: None)
    synchronizer = Synchronizer(
        SynchronizerConfig((SensorConfig(Modality.AUDIO, SECOND, frozen_after_ns=0),))
    )
    size = rate * chunk_ms // 1000
    for index in range(6 * len(late_ms)):
        if index in lost:
            continue
        late = late_ms[index // 6] if index % 6 == 3 else 0.0
        begin_ns = START + index * size * SECOND // rate
        now_ns = begin_ns + chunk_ms * 1_000_000 + round(late * 1e6)
        frame = decoder.decode(chunk_message(begin_ns + round(late * 1e6), bytes(2 * size)))
        synchronizer.observe(frame, now_ns, now_ns - START)
    status = synchronizer.status(now_ns, now_ns - START)[Modality.AUDIO]
    assert (status.gaps, status.refused) == (len(lost), 0)


def chunk_message(stamp_ns: int, data: bytes) -> SimpleNamespace:
    """The fields of AudioDataStamped."""
    stamp = SimpleNamespace(sec=stamp_ns // SECOND, nanosec=stamp_ns % SECOND)
    header = SimpleNamespace(stamp=stamp, frame_id="microphone")
    return SimpleNamespace(header=header, audio=SimpleNamespace(data=data))
