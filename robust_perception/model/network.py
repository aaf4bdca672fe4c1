"""The network: encoders, fusion, decoder, heads, put together.

    raw input of sensor m -> encoder -> representation = latents of m        only for sensors that are there
    latents, pattern -> completion -> fusion -> embedding -> decoder -> heads             always

What the four papers add is switched by `NetworkConfig`: `bottleneck` and `translation` (CyIN), `shared`
(Robult), `probabilistic` (DMRNet); all off is the plain network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from robust_perception.model.alone import Alone, Keys, told
from robust_perception.model.auxiliary import AuxiliaryHeads
from robust_perception.model.availability import flags, pick, pick_map
from robust_perception.model.bottleneck import Gaussian
from robust_perception.model.completion import Completion, Swap
from robust_perception.model.decoder import PyramidDecoder
from robust_perception.model.efficientnet import STRIDES
from robust_perception.model.embedding import ProbabilisticEmbedding
from robust_perception.model.encoders import LEVELS, AudioEncoder, ImageEncoder, widths_of
from robust_perception.model.fusion import LevelFusion, SumFusion
from robust_perception.model.heads import (
    DetectionHead,
    Detections,
    SceneHead,
    SegmentationHead,
    upsample,
)
from robust_perception.model.network_config import NetworkConfig
from robust_perception.model.pattern_selection import PatternSelection
from robust_perception.model.representation import TRANSLATED, Representation, Representer
from robust_perception.model.translation import pair_name, pairs_of
from robust_perception.vocabulary import MODALITIES, Modality, Pattern

Latents = dict[Modality, tuple[Tensor, ...]]
"""Per modality what fusion gets: p2 (B, C_2, h, w) and p3..p5 (B, C, h, w), or one vector (B, D) for sound.
Under the rule `poe` also the precisions of what is translated, (B, 1, h, w) each."""


class Outputs(NamedTuple):
    """What the heads say.

    Attributes:
        segmentation: logits, float32 (B, classes, H, W); the coarse ones where no size is given.
        coarse: those they are made of, float32 (B, classes, H / 4, W / 4).
        detections: raw detections at strides 8, 16, 32.
        scene: logits, float32 (B, S), or None without scene classes.
    """

    segmentation: Tensor
    coarse: Tensor
    detections: Detections
    scene: Tensor | None


class Fused(NamedTuple):
    """The fused pyramid, before it is decoded.

    Attributes:
        levels: p2..p5, float32 (B, C_2 or C, h, w); p5 is z where there is an embedding.
        embedding: distribution of z, or None.
        sound: float32 (B, D), or None without sound.
    """

    levels: list[Tensor]
    embedding: Gaussian | None
    sound: Tensor | None


class Noise(NamedTuple):
    """Makes z a sample; inference has none.

    Attributes:
        scale: of the standard deviation.
        generator: source of chance.
    """

    scale: float
    generator: torch.Generator | None = None


class FusionNetwork(nn.Module):
    """From latents and pattern to outputs: the half that always runs."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.selection = PatternSelection()
        sensors, width, sound = config.image_modalities, config.width, config.sound_width
        self.levels = nn.ModuleList()
        self.completions = nn.ModuleDict()
        for level, wide in zip(LEVELS, widths_of(width, config.fine_width), strict=True):
            completed = config.translation != "none" and level in TRANSLATED
            kind = SumFusion if config.fusion == "sum" else LevelFusion
            self.levels.append(kind(sensors, wide, sound, completed, coarse=level in TRANSLATED))
            if completed:
                self.completions[level] = Completion(
                    config.modalities,
                    width,
                    config.shared,
                    config.translation,
                    [
                        p
                        for p in pairs_of(config.modalities)
                        if config.seen is None or pair_name(p) in config.seen
                    ],
                    config.translator_blocks,
                )
        self.proposed: tuple[str, ...] = ()
        self.embedding = ProbabilisticEmbedding(width) if config.probabilistic else None
        self.decoder = PyramidDecoder(width)
        self.segmentation = SegmentationHead(width, config.fine_width, len(config.class_names))
        self.detection = DetectionHead(width, len(config.class_names) - 1)
        self.scene = SceneHead(width, sound, len(config.scene_names)) if config.scene_names else None

    def completion(self, level: str) -> Completion:
        """What completes a translated level."""
        return cast(Completion, self.completions[level])

    def targets(self, level: str) -> tuple[Modality, ...]:
        """Sensors whose latents of a translated level are completed: the sound's once, at the coarsest."""
        return self.config.modalities if level == TRANSLATED[-1] else self.config.image_modalities

    def alone(self, source: Modality, latents: tuple[Tensor, ...]) -> Alone:
        """What follows from one sensor's latents, which nobody else has a part in."""
        keys = self.alone_keys(source)
        translations = {
            (level, target): self.completion(level).translate(_at(latents, source, level), source, target)
            for level, target in keys.translations
        }
        indices = {level: LEVELS.index(level) for level in keys.proposals}
        proposals = {level: self.level(i).propose(source, latents[i]) for level, i in indices.items()}
        return Alone(translations, proposals)

    def alone_keys(self, source: Modality) -> Keys:
        """What of it there is."""
        translations = [
            (level, target)
            for level in self.completions
            for target in self.targets(level)
            if source in self.completion(level).translators.sources_of(target)
        ]
        return Keys(tuple(translations), self.proposed if source.is_image else ())

    def propose_ahead(self) -> None:
        """Count the sensors' proposals, where they follow from their latents alone, among what `alone` makes.

        That is for graphs; `fuse` then wants `alone`.
        """
        self.proposed = tuple(
            level
            for level, fusion in zip(LEVELS, self.levels, strict=True)
            if level not in self.completions and isinstance(fusion, LevelFusion) and fusion.plain
        )

    def level(self, index: int) -> LevelFusion:
        """What fuses a level."""
        return cast(LevelFusion, self.levels[index])

    def fuse(
        self,
        latents: Latents,
        pattern: Tensor,
        swap: Swap | None = None,
        noise: Noise | None = None,
        alone: Mapping[Modality, Alone] | None = None,
    ) -> Fused:
        """One pyramid out of the sensors'.

        Args:
            latents: of every modality of the network; whatever the pattern leaves out is not looked at.
            pattern: int64 (B,), bitmask 1..15.
            swap: replacements of a training pass.
            noise: of a training pass.
            alone: `alone` of every modality, made ahead; None = what is needed of it is made here.
        """
        config = self.config
        present, row = flags(pattern, config.modalities)
        sound = latents[Modality.AUDIO][0] if Modality.AUDIO in config.modalities else None
        tokens: dict[str, dict[Modality, Tensor]] = {}
        for level in self.completions:
            completion = self.completion(level)
            known = {m: _at(latents[m], m, level) for m in config.modalities}
            targets = self.targets(level)
            made = None if alone is None else {target: told(alone, level, target) for target in targets}
            precisions = self._precisions(latents, level, present, row)
            tokens[level] = completion(known, present, targets, precisions, swap, made, row)
        if sound is not None:
            if self.completions:
                sound = tokens[TRANSLATED[-1]].pop(Modality.AUDIO)[:, :, 0, 0]
            else:
                sound = torch.where(pick(present[Modality.AUDIO][:, None], row), sound, 0.0)
        levels: list[Tensor] = []
        for index, (level, fusion) in enumerate(zip(LEVELS, self.levels, strict=True)):
            known = tokens.get(level) or {m: latents[m][index] for m in config.image_modalities}
            proposals = None
            if alone is not None and level in self.proposed:
                proposals = {m: alone[m].proposals[level] for m in config.image_modalities}
            levels.append(fusion(known, sound, pattern, proposals))
        embedding: Gaussian | None = None
        if self.embedding is not None:
            embedding = self.embedding(levels[-1], pattern)
            levels[-1] = embedding.mean if noise is None else embedding.sample(noise.generator, noise.scale)
        return Fused(levels, embedding, sound)

    def decode(self, fused: Fused, size: tuple[int, int] | None) -> Outputs:
        """What the heads say of a fused pyramid; size (H, W) of the images, None = no map of that size."""
        finest, *levels = fused.levels
        decoded = self.decoder(levels)
        coarse = self.segmentation([finest, *decoded])
        return Outputs(
            coarse if size is None else upsample(coarse, size),
            coarse,
            self.detection(decoded),
            self.scene(decoded, fused.sound) if self.scene is not None else None,
        )

    def forward(
        self,
        latents: Latents,
        pattern: Tensor,
        size: tuple[int, int] | None,
        alone: Mapping[Modality, Alone] | None = None,
    ) -> Outputs:
        """Fuse, decode, predict, with means everywhere; arguments as `fuse` and `decode`."""
        with self.selection.of(pattern):
            return self.decode(self.fuse(latents, pattern, alone=alone), size)

    def _precisions(
        self, latents: Latents, level: str, present: Mapping[Modality, Tensor], row: Tensor | None
    ) -> dict[Modality, Tensor] | None:
        if self.config.translation != "poe":
            return None
        found = {}
        for m in self.config.modalities:
            value = latents[m][len(LEVELS) + TRANSLATED.index(level) if m.is_image else 1]
            found[m] = torch.where(pick_map(present[m], row), value, 1.0)
        return found


def _at(latents: tuple[Tensor, ...], modality: Modality, level: str) -> Tensor:
    """A sensor's latent of a level as a map; the sound's vector is a map of one pixel at every level."""
    return latents[LEVELS.index(level)] if modality.is_image else latents[0][:, :, None, None]


class Network(nn.Module):
    """Encoders and fusion network, and what training adds."""

    zero: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("zero", torch.zeros(()), persistent=False)  # tells device and type
        statistics = {
            Modality.DEPTH: (config.depth_mean, config.depth_std),
            Modality.THERMAL: (config.thermal_mean, config.thermal_std),
        }
        self.encoders = nn.ModuleDict()
        for modality in MODALITIES:
            if modality in config.image_modalities:
                mean, std = statistics.get(modality, (0.0, 1.0))
                self.encoders[modality.value] = ImageEncoder(
                    modality, config.width, config.fine_width, mean, std
                )
            elif modality in config.modalities:
                self.encoders[modality.value] = AudioEncoder(config.audio_width)
        self.fusion = FusionNetwork(config)
        self.selection = self.fusion.selection
        widths = {m: config.width if m.is_image else config.audio_width for m in config.modalities}
        self.representers = nn.ModuleDict()
        if config.informative:
            for m in config.modalities:
                self.representers[m.value] = Representer(
                    m, widths[m], config.width, config.bottleneck, config.shared
                )
        self.auxiliary = AuxiliaryHeads(
            config.modalities,
            config.width,
            config.fine_width,
            widths,
            config.bottleneck,
            config.shared,
            config.auxiliary,
            len(config.class_names),
            len(config.scene_names),
        )

    def represent(self, modality: Modality, raw: Tensor, there: Tensor | None = None) -> Representation:
        """One sensor's frames through its encoder and representation.

        Args:
            modality: which sensor.
            raw: its input, as `encoders` wants it.
            there: bool (B,), the samples that have the sensor. The encoder gets no others, because its norms
                would take blank frames into their statistics; their latents are zero. None = all.
        """
        latents = self._encoded(modality, raw, there)
        if not self.representers:
            return Representation(latents, (), (), ())
        representation: Representation = self.representers[modality.value](latents)
        return representation

    def latents(self, modality: Modality, representation: Representation) -> tuple[Tensor, ...]:
        """What fusion gets of a representation."""
        tokens = representation.tokens
        if not modality.is_image:
            tokens = tuple(x.flatten(1) for x in tokens)
        if self.config.translation == "poe":
            return (*tokens, *(g.precision for g in representation.gaussians))
        return tokens

    def encode(self, inputs: Mapping[Modality, Tensor], only: Pattern | None = None) -> Latents:
        """Latents of every modality of the network from its raw inputs (see `encoders`).

        Args:
            inputs: raw inputs of every modality.
            only: sensors whose encoders run; the others' latents are zero. None = all.
        """
        latents: Latents = {}
        for m in self.config.modalities:
            if only is None or m in only:
                latents[m] = self.latents(m, self.represent(m, inputs[m]))
            else:
                latents[m] = self._blank(m, inputs[m])
        return latents

    def _encoded(self, modality: Modality, raw: Tensor, there: Tensor | None) -> tuple[Tensor, ...]:
        """What the encoder says of the samples that have the sensor, zeros for the others."""
        encoder = self.encoders[modality.value]
        if there is None or bool(there.all()):
            out = encoder(raw)
            return (out,) if isinstance(out, Tensor) else out
        blank = self._zeros(modality, raw, self.config.audio_width)
        if not bool(there.any()):
            return blank
        out = encoder.forward(raw[there])  # no compiled call: that would be compiled for every number of them
        found = (out,) if isinstance(out, Tensor) else out
        return tuple(b.index_put((there,), x) for b, x in zip(blank, found, strict=True))

    def _blank(self, modality: Modality, raw: Tensor) -> tuple[Tensor, ...]:
        """Zeros of the shapes that a sensor's latents have."""
        levels = self._zeros(modality, raw, self.config.sound_width)
        if self.config.translation != "poe":
            return levels
        translated = levels[-len(TRANSLATED) :] if modality.is_image else levels
        return (*levels, *(x.new_zeros(len(raw), 1, *(x.shape[2:] or (1, 1))) for x in translated))

    def _zeros(self, modality: Modality, raw: Tensor, sound: int) -> tuple[Tensor, ...]:
        """Zeros of the shapes of an encoder's output, where a sound's vector has so many entries."""
        if not modality.is_image:
            return (self.zero.new_zeros(len(raw), sound),)
        widths = widths_of(self.config.width, self.config.fine_width)
        return tuple(
            self.zero.new_zeros(len(raw), wide, *(-(-side // STRIDES[name]) for side in raw.shape[1:3]))
            for name, wide in zip(LEVELS, widths, strict=True)
        )

    def forward(self, inputs: Mapping[Modality, Tensor], pattern: Tensor) -> Outputs:
        """Raw inputs of all modalities, and the pattern int64 (B,) that says which count."""
        image = inputs[self.config.image_modalities[0]]
        with self.selection.of(pattern):
            return self.fusion(self.encode(inputs), pattern, (image.shape[1], image.shape[2]))  # type: ignore[no-any-return]

    def served_parameters(self) -> Iterator[nn.Parameter]:
        """All but what only training needs."""
        yield from (p for name, p in self.named_parameters() if not name.startswith("auxiliary."))

    def load_imagenet(self) -> None:
        """Start every image encoder from ImageNet weights."""
        for modality in self.config.image_modalities:
            encoder = self.encoders[modality.value]
            assert isinstance(encoder, ImageEncoder)
            encoder.backbone.load_imagenet()
