from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from audio_common_msgs.msg import AudioDataStamped, AudioInfo
from sensor_msgs.msg import CompressedImage

from robust_perception.preprocess import prepare
from robust_perception.ros import images
from robust_perception.ros.messages import (
    audio_info,
    audio_message,
    header,
    image_message,
    stamp_to_ns,
)
from robust_perception.runtime.audio import AudioFormat
from robust_perception.runtime.decoders import AudioDecoder, ImageDecoder, ImageUnits
from robust_perception.runtime.errors import MessageError
from robust_perception.vocabulary import Modality, Reason, SensorFrame

STAMP = 1_234_567_890_123_456_789


def decoder(modality: Modality, image_units: ImageUnits | None = None) -> tuple[ImageDecoder, list[str]]:
    said: list[str] = []
    return ImageDecoder(modality, lambda: image_units or ImageUnits(), said.append), said


def message(array: np.ndarray, encoding: str) -> Any:
    made = images.from_array(array, encoding)
    made.header = header(STAMP, "camera")
    return made


def test_stamp_survives() -> None:
    assert stamp_to_ns(header(STAMP, "").stamp) == STAMP


@pytest.mark.parametrize(
    ("modality", "encoding"),
    [
        (Modality.RGB, "rgb8"),
        (Modality.DEPTH, "16UC1"),
        (Modality.DEPTH, "32FC1"),
        (Modality.THERMAL, "16UC1"),
    ],
)
def test_frame_there_and_back(modality: Modality, encoding: str) -> None:
    rng = np.random.default_rng(3)
    if modality is Modality.RGB:
        data: Any = rng.integers(0, 255, (4, 6, 3), dtype=np.uint8)
    elif modality is Modality.DEPTH:
        data = np.round(rng.uniform(0.3, 9.0, (4, 6)), 3).astype(np.float32)
        data[0, 0] = np.nan
    else:
        data = (rng.integers(17_000, 20_000, (4, 6)) / 64).astype(np.float32)
    sent = SensorFrame(modality, data, STAMP, "camera")
    got = decoder(modality)[0].decode(image_message(sent, encoding))
    assert (got.modality, got.stamp_ns, got.frame_id) == (modality, STAMP, "camera")
    assert got.data.dtype == data.dtype
    np.testing.assert_array_equal(got.data, data)


def test_every_kind_of_no_measurement_is_nan() -> None:
    metres = np.array([[1.0, 0.0, -1.0, np.nan, np.inf, -np.inf]], np.float32)
    got = decoder(Modality.DEPTH)[0].decode(message(metres, "32FC1"))
    np.testing.assert_array_equal(np.isnan(got.data), [[False, True, True, True, True, True]])


@pytest.mark.parametrize(
    ("values", "encoding"),
    [
        (np.array([[295.0, 0.0, -40.0, np.nan, np.inf]], np.float32), "32FC1"),
        (np.array([[18_880, 0, 0, 0, 0]], np.uint16), "16UC1"),
    ],
)
def test_nothing_at_or_below_absolute_zero_is_a_temperature(values: np.ndarray, encoding: str) -> None:
    got = decoder(Modality.THERMAL)[0].decode(message(values, encoding))
    np.testing.assert_array_equal(got.data, [[295.0, *[np.nan] * 4]])
    np.testing.assert_array_equal(prepare(got, (1, 5)), np.full((1, 5), 295.0), "as cold as all the rest")


def test_degrees_celsius_are_told_once() -> None:
    made, said = decoder(Modality.THERMAL)
    for warmest in (36.5, 36.6):
        made.decode(message(np.array([[-5.0, 18.0, warmest]], np.float32), "32FC1"))
    (word,) = said
    assert "expected kelvin in 32FC1, got a picture of at most 36.5: degrees Celsius?" in word


@pytest.mark.parametrize(
    ("values", "encoding"),
    [
        (np.array([[0.0, 205.0]], np.float32), "32FC1"),  # a clear sky
        (np.array([[1000, 2000]], np.uint16), "16UC1"),  # counts mean what the parameters say
    ],
)
def test_cold_things_and_counts_are_no_degrees_celsius(values: np.ndarray, encoding: str) -> None:
    made, said = decoder(Modality.THERMAL)
    made.decode(message(values, encoding))
    assert not said


def test_units_are_those_of_the_moment() -> None:
    now = [ImageUnits(thermal_scale=0.01)]
    made = ImageDecoder(Modality.THERMAL, lambda: now[0], lambda text: None)
    counts = np.full((2, 2), 30_000, np.uint16)
    assert made.decode(message(counts, "mono16")).data[0, 0] == 300.0
    now[0] = ImageUnits(thermal_scale=0.1, thermal_offset=173.15)
    assert made.decode(message(np.full((2, 2), 1000, np.uint16), "mono16")).data[0, 0] == np.float32(273.15)


def test_thermal_picture_is_not_taken_for_temperature() -> None:
    got = decoder(Modality.THERMAL)[0].decode(message(np.full((2, 2), 128, np.uint8), "mono8"))
    assert not got.radiometric
    assert got.data.dtype == np.float32
    assert got.data[0, 0] == 128.0


@pytest.mark.parametrize(
    ("modality", "array", "encoding", "reason", "words"),
    [
        (Modality.RGB, np.zeros((2, 2), np.uint16), "16UC1", Reason.WRONG_ENCODING, "out of rgb8"),
        (Modality.DEPTH, np.zeros((2, 2, 3), np.uint8), "rgb8", Reason.WRONG_ENCODING, "out of 32FC1"),
        (Modality.DEPTH, np.zeros((2, 2), np.uint16), "16UC1", Reason.BAD_DATA, "got 2x2 with none"),
        (Modality.DEPTH, np.full((2, 2), np.nan, np.float32), "32FC1", Reason.BAD_DATA, "0 or NaN"),
        (Modality.THERMAL, np.full((2, 2), np.nan, np.float32), "32FC1", Reason.BAD_DATA, "above 0 K"),
        (Modality.THERMAL, np.zeros((2, 2), np.uint16), "16UC1", Reason.BAD_DATA, "above 0 K"),
    ],
)
def test_rubbish_names_the_sensor(
    modality: Modality, array: np.ndarray, encoding: str, reason: Reason, words: str
) -> None:
    with pytest.raises(MessageError, match=words) as caught:
        decoder(modality)[0].decode(message(array, encoding))
    assert (caught.value.modality, caught.value.reason) == (modality, reason)
    assert str(caught.value).startswith(f"{modality}: {reason}: ")


def test_new_size_is_taken_when_it_stays() -> None:
    made, said = decoder(Modality.RGB)
    small, large = np.zeros((2, 2, 3), np.uint8), np.zeros((4, 6, 3), np.uint8)
    made.decode(message(small, "rgb8"))
    with pytest.raises(MessageError, match="size changed from 2x2 to 6x4; taken when the next"):
        made.decode(message(large, "rgb8"))
    assert not said
    assert made.decode(message(large, "rgb8")).data.shape == (4, 6, 3)
    assert said == ["size changed from 2x2 to 6x4, going on with the new one"]


def test_single_frame_of_another_size_changes_nothing() -> None:
    made, said = decoder(Modality.RGB)
    small, large = np.zeros((2, 2, 3), np.uint8), np.zeros((4, 6, 3), np.uint8)
    for _ in range(3):
        made.decode(message(small, "rgb8"))
        with pytest.raises(MessageError):
            made.decode(message(large, "rgb8"))
    assert not said


def test_compressed_image_of_each_sensor() -> None:
    counts = np.full((8, 8), 3000, np.uint16)
    png = CompressedImage(format="16UC1; png compressed", data=cv2.imencode(".png", counts)[1].tobytes())
    png.header = header(STAMP, "camera")
    assert decoder(Modality.DEPTH)[0].decode(png).data[0, 0] == 3.0
    with pytest.raises(MessageError, match="expected colour uint8"):
        decoder(Modality.RGB)[0].decode(png)
    grey = CompressedImage(
        format="mono8; jpeg", data=cv2.imencode(".jpg", counts.astype(np.uint8))[1].tobytes()
    )
    assert decoder(Modality.RGB)[0].decode(grey).data.shape == (8, 8, 3)


def test_sound_there_and_back() -> None:
    said: list[str] = []
    made = AudioDecoder(None, said.append)
    made.describe(audio_info())
    assert made.format == AudioFormat(16_000, coding_format="wave")
    samples = np.round(np.random.default_rng(0).uniform(-1, 0.99, 1600) * 32768) / 32768
    sent = SensorFrame(Modality.AUDIO, samples.astype(np.float32), STAMP, "microphone")
    got = made.decode(audio_message(sent))
    np.testing.assert_array_equal(got.data[-1600:], sent.data)
    assert got.stamp_ns + 1_000_000_000 == STAMP + 100_000_000
    assert got.frame_id == "microphone"
    assert not said


def test_sound_without_a_format_says_where_to_get_one() -> None:
    with pytest.raises(MessageError, match=r"audio_info \(latched\) or in the parameters") as caught:
        AudioDecoder(None, print).decode(AudioDataStamped(header=header(STAMP, "")))
    assert caught.value.reason is Reason.WRONG_ENCODING


def test_sound_of_a_refused_format_stays_refused_until_a_better_one() -> None:
    made = AudioDecoder(None, print)
    with pytest.raises(MessageError, match="got 'mp3'"):
        made.describe(AudioInfo(channels=1, sample_rate=16000, sample_format="S16LE", coding_format="mp3"))
    chunk = audio_message(SensorFrame(Modality.AUDIO, np.zeros(160, np.float32), STAMP))
    with pytest.raises(MessageError, match="got 'mp3'"):
        made.decode(chunk)
    made.describe(audio_info())
    assert made.decode(chunk).data.shape == (16_000,)


def test_parameters_win_over_audio_info() -> None:
    said: list[str] = []
    fixed = AudioFormat(8_000)
    made = AudioDecoder(fixed, said.append)
    made.describe(audio_info())
    assert made.format is fixed
    (word,) = said
    assert "S16LE 8000 Hz x1 and win over audio_info, which says S16LE 16000 Hz x1" in word


def test_audio_info_that_says_what_parameters_say_is_no_news() -> None:
    AudioDecoder(AudioFormat(16_000), pytest.fail).describe(audio_info())


def test_gap_in_sound_is_said() -> None:
    said: list[str] = []
    made = AudioDecoder(AudioFormat(16_000), said.append)
    chunk = SensorFrame(Modality.AUDIO, np.zeros(1600, np.float32), STAMP)
    made.decode(audio_message(chunk))
    late = SensorFrame(Modality.AUDIO, chunk.data, STAMP + 400_000_000)
    made.decode(audio_message(late))
    assert len(said) == 1
    assert "missing" in said[0]


def test_unstamped_sound_does_not_move_the_stream() -> None:
    made = AudioDecoder(AudioFormat(16_000), print)
    got = made.decode(audio_message(SensorFrame(Modality.AUDIO, np.ones(160, np.float32), 0)))
    assert (got.stamp_ns, got.end_ns) == (0, 0)
    later = made.decode(audio_message(SensorFrame(Modality.AUDIO, np.full(160, 0.5, np.float32), STAMP)))
    assert np.count_nonzero(later.data) == 160
