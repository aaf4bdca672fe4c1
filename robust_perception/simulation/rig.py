"""The four-sensor rig: one camera place that sees colour, distance and heat, and a microphone beside it.

A capture is a function of seed and time: the same seed and time give the same bytes within one process and on
one machine. Another machine's software renderer may round differently, so keep recordings, not seeds, where
bytes matter.

    rig = Rig(seed=7)
    rig.step(0.1)
    capture = rig.capture()
    rig.reset(8)          # another scene, no new model
"""

from __future__ import annotations

import math
from types import TracebackType

import numpy as np

from robust_perception.simulation import colour, depth, thermal
from robust_perception.simulation.capture import Capture, boxes_of_items
from robust_perception.simulation.classes import CLASS_NAMES, SCENE_NAMES
from robust_perception.simulation.compose import compose
from robust_perception.simulation.errors import SceneError
from robust_perception.simulation.noise import NoiseBank
from robust_perception.simulation.renderer import Renderer
from robust_perception.simulation.scene import CameraView, Exposure, Item, Lamp, Scene, Vec
from robust_perception.simulation.sound import Samples, Soundscape
from robust_perception.simulation.textures import PHOTOGRAPH_SIZE, PHOTOGRAPHS
from robust_perception.simulation.world import World
from robust_perception.vocabulary import AUDIO_RATE, Array, Modality, SensorFrame

__all__ = ["CLASS_NAMES", "SCENE_NAMES", "Rig"]

_PORTRAIT = CameraView((0.0, -2.6, 1.0), 0.0, 0.0, 0.0, math.radians(46))
_STUDIO = (Lamp((1.0, -2.0, 2.5), (-0.4, 1.0, -0.8), (0.5, 0.5, 0.48)),)


class Rig:
    """A seeded scene, and what four sensors make of it; to be used in the thread that made it.

    Args:
        seed: of the scene, >= 0.
        size: (rows, columns) of the pictures.

    Raises:
        GraphicsError: the machine cannot draw off-screen.
        SceneError: the size is too small to draw photographs.
    """

    def __init__(self, seed: int = 0, size: tuple[int, int] = (240, 320)) -> None:
        if size[0] < PHOTOGRAPH_SIZE[0] or size[1] < PHOTOGRAPH_SIZE[1]:
            msg = f"a rig draws pictures of at least {PHOTOGRAPH_SIZE} (rows, columns), got {size}"
            raise SceneError(msg)
        self.size = size
        self._world = World(*size)
        self._renderer = Renderer(self._world, *size)
        self._bank = NoiseBank(*size)
        self._photographs = [self._world.texture_id(f"photograph{i}") for i in range(PHOTOGRAPHS)]
        self.reset(seed)

    def reset(self, seed: int) -> None:
        """Enter the scene of `seed` at time 0."""
        self.enter(compose(seed))

    def enter(self, scene: Scene) -> None:
        """Enter a given scene at time 0; SceneError when it does not fit."""
        for texture, shown in zip(self._photographs, scene.photographs, strict=False):
            self._develop(texture, shown)
        self.scene = scene
        self._world.write(scene)
        items = scene.items
        parts = [(item_index, part) for item_index, item in enumerate(items) for part in item.parts]
        # One entry more than there are parts, so that index -1 (nothing drawn) finds background and air.
        self._item_of_part = np.array([i for i, _ in parts] + [-1], dtype=np.int32)
        self._kelvin_of_part = np.array(
            [p.kelvin for _, p in parts] + [scene.ambient_kelvin], dtype=np.float32
        )
        self._class_of_item = np.array([item.class_id for item in items] + [0], dtype=np.uint8)
        stains = np.array([p.rgba[3] < 1 for _, p in parts] + [False])
        self._item_of_part[stains] = -1
        self._label_of_part = self._class_of_item[self._item_of_part]
        self._sound = Soundscape(scene.emitters, scene.quiet, scene.noise_seed)
        self.step(0.0)

    def step(self, t_s: float) -> None:
        """Move everything to where it is `t_s` seconds after the scene began; any order, any step."""
        self.time = float(t_s)
        self._world.pose(self.time)

    def capture(self, sound_s: float = 1.0, stamp_ns: int | None = None) -> Capture:
        """Measure this instant.

        Args:
            sound_s: length of the stretch of sound that ends at this instant, seconds.
            stamp_ns: stamp of the pictures; None = the rig's own time.

        Returns:
            The truth, and frames whose pictures carry the stamp and whose sound that of its first sample.
        """
        scene, now = self.scene, round(self.time * 1e9)
        stamp = now if stamp_ns is None else stamp_ns
        rng = np.random.default_rng([scene.noise_seed, now % (1 << 63)])
        light = self._renderer.colour()
        part, distance = self._renderer.identity()
        surface = self._kelvin_of_part[part]
        still = np.random.default_rng(scene.noise_seed)
        heat = thermal.measure(surface, distance, scene.ambient_kelvin, self._bank, still, rng)
        end = round(self.time * AUDIO_RATE)
        count = round(sound_s * AUDIO_RATE)
        sound = self.listen(end - count, count)
        data: dict[Modality, Array] = {
            Modality.RGB: colour.expose(light, scene.exposure, self._bank, rng),
            Modality.DEPTH: depth.measure(distance, self._bank, rng),
            Modality.THERMAL: heat,
        }
        frames = {m: SensorFrame(m, values, stamp, "rig_optical_frame") for m, values in data.items()}
        first = stamp - round(count / AUDIO_RATE * 1e9)
        frames[Modality.AUDIO] = SensorFrame(Modality.AUDIO, sound, first, "rig_microphone")
        boxes, class_ids = boxes_of_items(self._item_of_part[part], self._class_of_item)
        present = np.array([name in scene.present for name in SCENE_NAMES], dtype=np.float32)
        return Capture(frames, self._label_of_part[part], boxes, class_ids, present)

    def listen(self, start: int, count: int) -> Samples:
        """Samples `start` to `start + count` of the scene, 16 kHz, as heard from where the rig now is."""
        places = [self._place_of(i) for i in range(len(self.scene.emitters))]
        microphone, _ = self.scene.camera.pose(self.time)
        return self._sound.heard(start, count, places, microphone)

    @property
    def intrinsics(self) -> tuple[float, float, float, float]:
        """Pinhole camera of all three pictures, in pixels: fx, fy, cx, cy."""
        rows, columns = self.size
        focal = rows / 2 / math.tan(self.scene.camera.fov_y / 2)
        return focal, focal, columns / 2 - 0.5, rows / 2 - 0.5

    def close(self) -> None:
        """Free the OpenGL context."""
        self._renderer.close()

    def __enter__(self) -> Rig:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _place_of(self, index: int) -> Vec:
        emitter = self.scene.emitters[index]
        if emitter.item is None:
            return np.asarray(emitter.at)
        item = self.scene.items[emitter.item]
        place: Vec = item.position(self.time) + item.rotation(self.time) @ np.asarray(emitter.at)
        return place

    def _develop(self, texture: int, shown: tuple[Item, ...]) -> None:
        studio = Scene(
            items=shown,
            camera=_PORTRAIT,
            lamps=_STUDIO,
            ambient_light=(0.4, 0.4, 0.4),
            exposure=Exposure(),
            ambient_kelvin=290.0,
            emitters=(),
            present=frozenset(),
            noise_seed=0,
        )
        self._world.write(studio)
        self._world.pose(0.0)
        self._renderer.upload(texture, self._renderer.colour(PHOTOGRAPH_SIZE))
