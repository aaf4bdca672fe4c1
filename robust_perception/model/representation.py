"""From an encoder's latents to informative ones: bottleneck (CyIN), then shared and unique parts (Robult).

    image sensor   F at p4 and p5   ->  mu = E(F)  ->  [R, U] = [s(mu), g(mu)]      (B, C, h, w)
    sound          its vector       ->  the same, as a map of one pixel             (B, C, 1, 1)

p2 and p3 stay as the encoder gives them: to translate fine maps would be to invent texture. Either step may
be left out; what is left is what the network goes on with. It depends on its own sensor alone, so it belongs
to the encoder's exported graph.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from robust_perception.model.alignment import SharedUnique
from robust_perception.model.bottleneck import BottleneckEncoder, Gaussian
from robust_perception.vocabulary import Modality

TRANSLATED = ("p4", "p5")
"""Levels of an image sensor that are compressed and translated."""


def compressed_levels(modality: Modality) -> tuple[str, ...]:
    """Names of a sensor's levels that are compressed and translated; a sound is one vector."""
    return TRANSLATED if modality.is_image else ("vector",)


class Representation(NamedTuple):
    """What is known of one sensor's frames at its translated levels, p4 then p5; one entry for sound.

    Attributes:
        tokens: what fusion gets of every level: p2..p5, or the sound's (B, C, 1, 1).
        features: F.
        latents: H of Robult: mu with a bottleneck, F without.
        gaussians: of the bottleneck; empty without one.
    """

    tokens: tuple[Tensor, ...]
    features: tuple[Tensor, ...]
    latents: tuple[Tensor, ...]
    gaussians: tuple[Gaussian, ...]


class Representer(nn.Module):
    """Both steps of one sensor.

    Args:
        modality: which.
        source: channels of the encoder's latents.
        width: C.
        hidden: of the bottleneck, C_ib; 0 = no bottleneck.
        shared: whether to split.
    """

    def __init__(self, modality: Modality, source: int, width: int, hidden: int, shared: bool) -> None:
        super().__init__()
        self.modality = modality
        names = compressed_levels(modality)
        self.adjust = nn.Conv2d(source, width, 1) if source != width and not hidden else None
        self.bottlenecks = nn.ModuleDict(
            {n: BottleneckEncoder(source, hidden, width) for n in names} if hidden else {}
        )
        self.splits = nn.ModuleDict({n: SharedUnique(width) for n in names} if shared else {})
        self.names = names

    def forward(self, latents: tuple[Tensor, ...]) -> Representation:
        """The encoder's output: p2..p5, or (vector (B, D),)."""
        if self.modality.is_image:
            untouched = latents[: -len(TRANSLATED)]
            features = latents[len(untouched) :]
        else:
            untouched, features = (), (latents[0][:, :, None, None],)
        gaussians = tuple(
            self.bottlenecks[name](feature)
            for name, feature in zip(self.names, features, strict=True)
            if self.bottlenecks
        )
        kept = tuple(g.mean for g in gaussians) if gaussians else features
        if self.adjust is not None:
            kept = tuple(self.adjust(x) for x in kept)
        tokens = tuple(
            self.splits[name](x) if self.splits else x for name, x in zip(self.names, kept, strict=True)
        )
        return Representation((*untouched, *tokens), features, kept, gaussians)
