from __future__ import annotations

import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest

from robust_perception.runtime.audio import AudioFormat, AudioStream
from robust_perception.runtime.errors import DataError, EncodingError
from robust_perception.runtime.resample import MOST_ENTRIES, Resampler, table_entries

SECOND = 1_000_000_000
START = 5 * SECOND


def tone(rate: int, seconds: float, hertz: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


def pcm16(samples: np.ndarray) -> bytes:
    return np.rint(samples * 32768).astype("<i2").tobytes()


@pytest.mark.parametrize(
    ("name", "dtype", "scale"),
    [("S16LE", "<i2", 2**15), ("s16_be", ">i2", 2**15), ("S32LE", "<i4", 2**31), ("F32LE", "<f4", 1)],
)
def test_sample_formats_give_the_same_sound(name: str, dtype: str, scale: float) -> None:
    samples = np.array([0.0, 0.5, -0.25, -1.0])
    data = (samples * scale).astype(dtype).tobytes()
    decoded = AudioFormat(16_000, 1, name).decode(data)
    assert decoded.dtype == np.float32
    np.testing.assert_array_equal(decoded, samples.astype(np.float32))
    assert AudioFormat(16_000, 1, name).encode(decoded) == data


def test_channels_are_averaged() -> None:
    interleaved = np.array([0.5, 0.25, -0.5, 0.0], "<f4")
    decoded = AudioFormat(16_000, 2, "F32LE").decode(interleaved.tobytes())
    np.testing.assert_array_equal(decoded, np.array([0.375, -0.25], np.float32))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((0,), "1000 to 384000 Hz, got 0"),
        ((383_999,), "multiple of 25 .* got 383999"),
        ((16_000, 0), "1 to 64 channels, got 0"),
        ((16_000, 1, "U8"), "got 'U8'"),
        ((16_000, 1, "S16LE", "mp3"), "got 'mp3'"),
    ],
)
def test_format_that_is_not_understood(values: tuple, words: str) -> None:
    with pytest.raises(EncodingError, match=words):
        AudioFormat(*values)


@pytest.mark.parametrize(
    ("data", "words"), [(b"", "got 0"), (b"abc", "multiple of 2 bytes .* got 3")], ids=["empty", "odd"]
)
def test_bytes_that_are_no_samples(data: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        AudioFormat(16_000).decode(data)


def test_samples_that_are_no_numbers() -> None:
    data = np.array([0.0, np.nan, np.inf], "<f4").tobytes()
    with pytest.raises(DataError, match="2 NaN or infinite of 3"):
        AudioFormat(16_000, 1, "F32LE").decode(data)


def test_chunks_join_without_a_seam_and_stamps_move_on() -> None:
    stream = AudioStream(AudioFormat(16_000))
    sound = tone(16_000, 1.5)
    firsts = []
    for index in range(15):
        chunk = sound[index * 1600 : (index + 1) * 1600]
        window, first_ns = stream.push(pcm16(chunk), START + index * SECOND // 10)
        firsts.append(first_ns)
        assert window.shape == (16_000,)
    assert set(np.diff(firsts)) == {SECOND // 10}, "a window whose start stands still would look frozen"
    assert firsts[-1] + SECOND == START + 15 * SECOND // 10
    np.testing.assert_allclose(window, sound[-16_000:], atol=1 / 32768)
    assert stream.gaps == 0


def test_before_the_first_chunk_there_is_silence() -> None:
    window, first_ns = AudioStream(AudioFormat(16_000)).push(pcm16(np.full(1600, 0.5)), START)
    assert not window[:-1600].any()
    assert (window[-1600:] == 0.5).all()
    assert first_ns == START + SECOND // 10 - SECOND


def test_hole_keeps_time_and_is_counted() -> None:
    stream = AudioStream(AudioFormat(16_000))
    loud = pcm16(np.full(1600, 0.5))
    stream.push(loud, START)
    window, _ = stream.push(loud, START + 3 * SECOND // 10)  # 0.2 s are missing
    assert stream.gaps == 1
    assert (window[-1600:] == 0.5).all()
    assert not window[-4800:-1600].any()
    assert (window[-6400:-4800] == 0.5).all()


@pytest.mark.parametrize("jump_s", [-3.0, 2.5])
def test_jump_of_time_starts_the_second_over(jump_s: float) -> None:
    stream = AudioStream(AudioFormat(16_000))
    loud = pcm16(np.full(1600, 0.5))
    stream.push(loud, START)
    window, first_ns = stream.push(loud, START + round(jump_s * SECOND))
    assert np.count_nonzero(window) == 1600
    assert first_ns == START + round(jump_s * SECOND) + SECOND // 10 - SECOND


def test_jitter_is_no_hole() -> None:
    stream = AudioStream(AudioFormat(16_000))
    loud = pcm16(np.full(1600, 0.5))
    stream.push(loud, START)
    window, _ = stream.push(loud, START + SECOND // 10 + 20_000_000)
    assert stream.gaps == 0
    assert np.count_nonzero(window) == 3200


def played(stamps_ms: Sequence[float], chunk_ms: int) -> tuple[AudioStream, np.ndarray]:
    """A stream of loud chunks with these stamps, and its last second."""
    stream = AudioStream(AudioFormat(16_000))
    for stamp_ms in stamps_ms:
        window, _ = stream.push(pcm16(np.full(16 * chunk_ms, 0.5)), START + round(stamp_ms * 1e6))
    return stream, window


@pytest.mark.parametrize(("chunk_ms", "drop"), [(20, 2), (10, 2), (10, 3), (10, 50)])
def test_lost_chunks_shorter_than_the_tolerance_leave_silence(chunk_ms: int, drop: int) -> None:
    sent = range(3000 // chunk_ms)
    stream, window = played([i * chunk_ms for i in sent if i % drop != drop - 1], chunk_ms)
    assert stream.gaps > 0
    assert np.mean(window == 0) == pytest.approx(1 / drop, abs=0.02)


def test_one_lost_chunk_is_one_hole_of_its_length() -> None:
    stream, window = played([i * 10 for i in range(60) if i != 20], 10)
    assert stream.gaps == 1
    assert np.count_nonzero(window) == 16 * 590
    assert not window[: -16 * 600].any()


@pytest.mark.parametrize("chunk_ms", [10, 20, 100])
@pytest.mark.parametrize("stall_ms", [40, 60, 100])
def test_a_stall_of_whoever_stamps_leaves_no_more_silence_than_it_took(chunk_ms: int, stall_ms: int) -> None:
    stamps, free_ms = [], 0.0
    for i in range(5000 // chunk_ms):  # stamped when it is handed on, and nothing is lost
        free_ms = max(free_ms, i * chunk_ms)
        if i == 3000 // chunk_ms:
            free_ms += stall_ms
        stamps.append(free_ms)
    for end in range(3000 // chunk_ms, len(stamps), max(1, 100 // chunk_ms)):
        _, window = played(stamps[:end], chunk_ms)
        assert np.mean(window == 0) <= (stall_ms + 30) / 1000, f"after {end} chunks"


def test_stamps_that_jitter_leave_the_time_of_the_sound_alone() -> None:
    """A driver that stamps when it gets to it: the time between two windows is what the chunk took."""
    late_ms = np.random.default_rng(0).uniform(0, 8, 500)
    stream = AudioStream(AudioFormat(48_000))
    firsts = [
        stream.push(pcm16(np.full(480, 0.5)), START + round((i * 10 + late) * 1e6))[1]
        for i, late in enumerate(late_ms)
    ]
    steps_ms = np.diff(firsts) / 1e6
    assert np.abs(steps_ms - 10).max() < 0.06, "two clocks are apart by less"
    assert abs(firsts[-1] + SECOND - START - 5000e6) < 10e6
    assert stream.gaps == 0


@pytest.mark.parametrize("chunk_ms", [10, 100])
def test_a_stamp_that_comes_again_gives_the_time_of_before(chunk_ms: int) -> None:
    """Presence calls that frozen."""
    stream = AudioStream(AudioFormat(48_000))
    loud = pcm16(np.full(48 * chunk_ms, 0.5))
    for i in range(20):
        _, first_ns = stream.push(loud, START + i * chunk_ms * 1_000_000)
    again = [stream.push(loud, START + 19 * chunk_ms * 1_000_000)[1] for _ in range(10)]
    assert set(again) == {first_ns}


@pytest.mark.parametrize("drift", [-5e-4, 5e-4])
def test_drift_of_clocks_is_no_hole(drift: float) -> None:
    stream, window = played([i * 10 * (1 + drift) for i in range(12_000)], 10)  # 60 ms in the end
    assert stream.gaps == 0
    assert (window == 0.5).all()


def test_stamps_of_short_chunks_may_come_late_now_and_then() -> None:
    late = np.random.default_rng(0).choice([0, 0, 0, 12, 25], 3000)
    stream, _ = played([i * 10 + (ms if i % 3 else 0) for i, ms in enumerate(late)], 10)
    assert stream.gaps == 0


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_other_rates_sound_the_same_and_keep_their_time(rate: int) -> None:
    """The window, at the time it says it begins, is the tone at that time."""
    stream = AudioStream(AudioFormat(rate, 1, "F32LE"))
    sound = tone(rate, 2.0)
    position, sizes = 0, (rate // 10, rate // 7, rate // 23)
    for index in range(60):
        size = sizes[index % 3]
        if position + size > sound.size:
            break
        chunk = sound[position : position + size].astype("<f4")
        window, first_ns = stream.push(chunk.tobytes(), START + position * SECOND // rate)
        position += size
    times = (first_ns - START) / SECOND + np.arange(16_000) / 16_000
    expected = 0.5 * np.sin(2 * np.pi * 440.0 * times)
    assert stream.gaps == 0
    assert np.abs(window[400:] - expected[400:]).max() < 1e-3


def test_resampled_chunks_equal_the_resampled_whole() -> None:
    sound = np.random.default_rng(2).normal(size=44_100).astype(np.float32)
    whole = Resampler(44_100).push(sound)
    piecewise = Resampler(44_100)
    pieces = [piecewise.push(part) for part in np.array_split(sound, 37)]
    np.testing.assert_allclose(np.concatenate(pieces), whole, atol=1e-6)
    assert abs(whole.size - 16_000) < 30


def test_a_minute_in_one_message_takes_little_more_than_itself() -> None:
    stream = AudioStream(AudioFormat(48_000))
    data = pcm16(tone(48_000, 60.0))
    tracemalloc.start()
    try:
        window, _ = stream.push(data, START)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert np.abs(window).max() > 0.4
    assert most < 10 * len(data), f"{most} bytes at once, of a message of {len(data)}"


def test_resampling_suppresses_what_16_khz_cannot_hold() -> None:
    resampler = Resampler(48_000)
    output = resampler.push(tone(48_000, 1.0, hertz=12_000.0).astype(np.float32))
    assert np.abs(output[200:-200]).max() < 0.5e-3


@pytest.mark.parametrize("rate", [11_025, 22_050, 44_056, 47_952, 192_000, 383_975])
def test_rates_of_real_devices_are_taken(rate: int) -> None:
    assert AudioFormat(rate).sample_rate == rate
    assert table_entries(rate) <= MOST_ENTRIES


def test_resampler_starts_over() -> None:
    sound = tone(48_000, 0.2).astype(np.float32)
    resampler = Resampler(48_000)
    first = resampler.push(sound)
    resampler.reset()
    np.testing.assert_array_equal(resampler.push(sound), first)
