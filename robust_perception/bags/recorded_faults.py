"""A fault script applied to recorded messages.

A fault that only decides whether and when a message arrives leaves its bytes alone. One that changes content
takes the message apart and puts it together again in the same encoding; pictures with an alpha channel and
grey ones of an RGB camera become rgb8. How samples of sound are stored is learnt from the AudioInfo that the
same recording holds; until it has come, such a fault has no effect on sound.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from robust_perception import units
from robust_perception.bags import dataset, types
from robust_perception.bags.errors import BagError
from robust_perception.bags.reader import RawMessage
from robust_perception.bags.sensor_topics import audio_info_topics
from robust_perception.faults.kinds import KINDS
from robust_perception.faults.script import FaultScript
from robust_perception.runtime.audio import AudioFormat
from robust_perception.runtime.decoders import ImageDecoder, ImageUnits, stamp_to_ns
from robust_perception.runtime.errors import DecodingError, EncodingError, MessageError
from robust_perception.vocabulary import IMAGE_MODALITIES, Modality, Reason, SensorFrame


class RecordedFaults:
    """Applies a script to the sensors of a bag.

    Args:
        script: what happens.
        sensors: topic -> the sensor on it; other topics pass.
        image_units: what the counts of integer images mean, asked for every message.
        say: told once a topic why a fault cannot be applied to it.
    """

    def __init__(
        self,
        script: FaultScript,
        sensors: Mapping[str, Modality],
        image_units: Callable[[], ImageUnits],
        say: Callable[[str], None],
    ) -> None:
        self._script, self._sensors, self._say = script, sensors, say
        self._units = image_units
        self._said: set[str] = set()
        self._time_s = 0.0
        self._decoders = {m: ImageDecoder(m, image_units, lambda _: None) for m in IMAGE_MODALITIES}
        self._formats: dict[str, AudioFormat | str] = {}

    def __call__(self, message: RawMessage, time_s: float) -> list[tuple[bytes, float]]:
        """What arrives of a message measured at `time_s`: bytes and seconds of delay."""
        if time_s < self._time_s:
            self._script.reset()  # the bag has begun again
        self._time_s = time_s
        if message.msgtype == types.AUDIO_INFO:
            self._formats[message.topic] = _format(message)
        modality = self._sensors.get(message.topic)
        active = [fault for fault in self._script.active(time_s) if fault.sensor is modality]
        if modality is None or not active:
            return [(message.data, 0.0)]
        if all(KINDS[fault.kind].nature == "arrival" for fault in active):
            token = SensorFrame(modality, np.zeros(0, np.float32), 0)
            return [(message.data, delivery.delay_s) for delivery in self._script.apply(token, time_s)]
        try:
            frame, encode = self._open(message, modality)
        except (DecodingError, BagError) as error:
            if message.topic not in self._said:
                self._said.add(message.topic)
                detail = error.detail if isinstance(error, MessageError) else str(error)
                self._say(f"{message.topic}: {active[0].kind} has no effect: {detail}")
            return [(message.data, 0.0)]
        return [(encode(delivery.frame), delivery.delay_s) for delivery in self._script.apply(frame, time_s)]

    def _open(
        self, message: RawMessage, modality: Modality
    ) -> tuple[SensorFrame, Callable[[SensorFrame], bytes]]:
        """The frame in a message, and what makes a message of the same encoding of a frame."""
        if message.msgtype == types.IMAGE and modality.is_image:
            image = types.deserialize(message.data, types.IMAGE)
            frame = self._decoders[modality].decode(image)
            return frame, lambda changed: _image(changed, image.encoding, self._units())
        if message.msgtype == types.AUDIO and modality is Modality.AUDIO:
            chunk = types.deserialize(message.data, types.AUDIO)
            stored = self._format_of(message.topic)
            samples = stored.decode(memoryview(chunk.audio.data))
            stamp_ns, frame_id = stamp_to_ns(chunk.header.stamp), str(chunk.header.frame_id)
            return SensorFrame(modality, samples, stamp_ns, frame_id), lambda changed: _audio(changed, stored)
        expected = types.IMAGE if modality.is_image else types.AUDIO
        detail = f"expected {expected}, got {message.msgtype}"
        raise MessageError(modality, Reason.WRONG_ENCODING, detail)

    def _format_of(self, topic: str) -> AudioFormat:
        names = audio_info_topics(topic)
        told = next((self._formats[name] for name in names if name in self._formats), None)
        if isinstance(told, AudioFormat):
            return told
        msg = told or f"expected the sample format on {' or '.join(names)} before it, got none"
        raise EncodingError(msg)


def _format(message: RawMessage) -> AudioFormat | str:
    """How samples are stored, or why nobody knows; as of one channel: faults act on every sample alike."""
    try:
        info = types.deserialize(message.data, types.AUDIO_INFO)
        return AudioFormat(info.sample_rate, 1, info.sample_format, info.coding_format)
    except (BagError, EncodingError) as error:
        return f"{message.topic}: {error}"


def _audio(frame: SensorFrame, stored: AudioFormat) -> bytes:
    return dataset.audio(stored.encode(frame.data), frame.stamp_ns, frame.frame_id)


def _image(frame: SensorFrame, encoding: str, scale: ImageUnits) -> bytes:
    stamped = (frame.stamp_ns, frame.frame_id)
    if not frame.radiometric:
        grey = np.clip(np.rint(frame.data), 0, 255).astype(np.uint8)
        return dataset.image(grey, "mono8", *stamped)
    if frame.modality is Modality.RGB:
        if encoding == "bgr8":
            return dataset.image(frame.data[..., ::-1], encoding, *stamped)
        return dataset.image(frame.data, "rgb8", *stamped)
    if encoding == "32FC1":
        return dataset.image(frame.data, encoding, *stamped)
    if frame.modality is Modality.DEPTH:
        counts = units.counts_from_depth(frame.data, scale.depth_scale)
    else:
        counts = units.counts_from_thermal(frame.data, scale.thermal_scale, scale.thermal_offset)
    # mono16 is 16UC1 by another name
    return dataset.image(counts, encoding, *stamped)
