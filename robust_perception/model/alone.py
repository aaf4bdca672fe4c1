"""What follows from one sensor's latents alone, made together with them.

    translations   G_mn R_m, what sensor m tells of sensor n, at levels that are completed (`translation`)
    proposals      gates and mixtures of x_m, at levels that are not (`fusion`)

A graph of a sensor's encoder has them too: they cost nothing while the sensor is lost, and nothing when only
another one has a new frame. Training makes them where they are needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from torch import Tensor

from robust_perception.model.fusion import Proposal
from robust_perception.vocabulary import Modality


class Alone(NamedTuple):
    """Of one sensor.

    Attributes:
        translations: by level and target (B, d, h, w); (B, d, 1, 1) where sound takes part.
        proposals: by level.
    """

    translations: Mapping[tuple[str, Modality], Tensor]
    proposals: Mapping[str, Proposal]


class Keys(NamedTuple):
    """What there is of one sensor, in the order of `flat`.

    Attributes:
        translations: level and target of each.
        proposals: their levels.
    """

    translations: tuple[tuple[str, Modality], ...]
    proposals: tuple[str, ...]

    def names(self, modality: Modality) -> list[str]:
        """Names of the tensors: `rgb_p4_as_depth`, `rgb_p2_gate`, `rgb_p2_mixed`."""
        translations = [f"{modality.value}_{level}_as_{target.value}" for level, target in self.translations]
        return translations + [
            f"{modality.value}_{level}_{part}" for level in self.proposals for part in Proposal._fields
        ]

    def unflatten(self, tensors: Iterator[Tensor]) -> Alone:
        """Take the tensors of one sensor, in the order of `flat`."""
        translations = {key: next(tensors) for key in self.translations}
        return Alone(
            translations, {level: Proposal(next(tensors), next(tensors)) for level in self.proposals}
        )


def flat(alone: Alone) -> tuple[Tensor, ...]:
    """The tensors, translations first."""
    proposed: Iterable[Tensor] = (tensor for proposal in alone.proposals.values() for tensor in proposal)
    return (*alone.translations.values(), *proposed)


def told(alone: Mapping[Modality, Alone], level: str, target: Modality) -> dict[Modality, Tensor]:
    """What sensors tell of one at a level, by source."""
    key = (level, target)
    return {m: found.translations[key] for m, found in alone.items() if key in found.translations}
