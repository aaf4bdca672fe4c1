"""Stamps, headers, and frames to messages; the way from a message to a frame is `runtime.decoders`."""

from __future__ import annotations

from audio_common_msgs.msg import AudioDataStamped, AudioInfo
from builtin_interfaces.msg import Time
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from robust_perception import units
from robust_perception.ros import images
from robust_perception.runtime.audio import SECOND_NS
from robust_perception.runtime.decoders import ImageUnits, stamp_to_ns
from robust_perception.vocabulary import AUDIO_RATE, Modality, SensorFrame

__all__ = [
    "audio_info",
    "audio_message",
    "header",
    "image_message",
    "ns_to_stamp",
    "stamp_to_ns",
]


def ns_to_stamp(stamp_ns: int) -> Time:
    """Nanoseconds as a message's stamp."""
    sec, nanosec = divmod(int(stamp_ns), SECOND_NS)
    return Time(sec=sec, nanosec=nanosec)


def header(stamp_ns: int, frame_id: str) -> Header:
    """A header of this stamp and coordinate frame."""
    return Header(stamp=ns_to_stamp(stamp_ns), frame_id=frame_id)


def image_message(frame: SensorFrame, encoding: str, image_units: ImageUnits | None = None) -> Image:
    """An image frame as a message.

    Args:
        frame: rgb, depth or thermal.
        encoding: `rgb8` for rgb; `32FC1`, or `16UC1` in the counts of `image_units`, for the others.
        image_units: None = the defaults.
    """
    scale = image_units or ImageUnits()
    data = frame.data
    if encoding == "16UC1":
        if frame.modality is Modality.DEPTH:
            data = units.counts_from_depth(data, scale.depth_scale)
        else:
            data = units.counts_from_thermal(data, scale.thermal_scale, scale.thermal_offset)
    message = images.from_array(data, encoding)
    message.header = header(frame.stamp_ns, frame.frame_id)
    return message


def audio_message(frame: SensorFrame) -> AudioDataStamped:
    """A stretch of sound as 16-bit samples, stamped with the time of its first sample."""
    message = AudioDataStamped(header=header(frame.stamp_ns, frame.frame_id))
    message.audio.data = units.pcm16_from_audio(frame.data).astype("<i2").tobytes()
    return message


def audio_info() -> AudioInfo:
    """The format of `audio_message`."""
    return AudioInfo(
        channels=1,
        sample_rate=AUDIO_RATE,
        sample_format="S16LE",
        bitrate=AUDIO_RATE * 16,
        coding_format="wave",
    )
