"""Makes the latents of a level complete: what is missing is translated from what is there.

With [R_m, U_m] the halves of sensor m's latent (R_m alone, all of it, without Robult's split):

    m there     token_m = [R_m, U_m] + there_m
    m missing   token_m = [R^_m, null_m] + filled_m       R^_m by the missing-latent rule (`translation`)

`null_m`, `there_m` and `filled_m` are learned. What only one sensor can know is not guessed: a translator
would answer with its conditional mean (K6 of the method's notes); and fusion can tell a guess from a
measurement (K7).

In training a latent that is there may be swapped for its translation, `Swap`, so that fusion meets
translations under rich patterns too (CyIN's stage 2).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from robust_perception.model.availability import pick_map
from robust_perception.model.translation import Pair, Translators
from robust_perception.vocabulary import Modality


class Swap(NamedTuple):
    """Which latents a training pass replaces although they are there.

    Attributes:
        replaced: per sensor bool (B,).
        usable: per target, per source bool (B,): what its translation may be made of.
    """

    replaced: Mapping[Modality, Tensor]
    usable: Mapping[Modality, Mapping[Modality, Tensor]]


def draw_swap(
    present: Mapping[Modality, Tensor], probability: float, generator: torch.Generator | None = None
) -> Swap:
    """Replace each latent with this probability, from one other sensor or from all, equally likely.

    Args:
        present: per sensor bool (B,). A sensor that is alone is never replaced.
        probability: of a replacement.
        generator: source of chance, of the sensors' device.
    """
    replaced: dict[Modality, Tensor] = {}
    usable: dict[Modality, dict[Modality, Tensor]] = {}
    for target, there in present.items():
        others = [m for m in present if m is not target]
        known = torch.stack([present[m] for m in others]) if others else there.new_zeros((0, len(there)))
        chance = torch.rand(2, len(there), generator=generator, device=there.device)
        replaced[target] = there & known.any(dim=0) & (chance[0] < probability)
        count = known.sum(dim=0)
        choice = torch.where(replaced[target], (chance[1] * (count + 1)).long(), count)  # count = all of them
        order = known.cumsum(dim=0) - 1
        usable[target] = {
            m: known[i] & ((choice == count) | (order[i] == choice)) for i, m in enumerate(others)
        }
    return Swap(replaced, usable)


class Completion(nn.Module):
    """One level's tokens of all sensors.

    Args:
        modalities: sensors.
        width: C of a latent.
        shared: whether its first half is what sensors share.
        rule: see `translation`.
        seen: pairs that were seen together; None = all.
        blocks: of each translator.
        kernel: of the translators between image sensors.
    """

    def __init__(
        self,
        modalities: Sequence[Modality],
        width: int,
        shared: bool,
        rule: str,
        seen: Collection[Pair] | None = None,
        blocks: int = 2,
        kernel: int = 3,
    ) -> None:
        super().__init__()
        self.translated = width // 2 if shared else width
        self.translators = Translators(modalities, self.translated, rule, seen, blocks, kernel)
        self.modalities = self.translators.modalities

        def table(channels: int) -> nn.ParameterDict:
            return nn.ParameterDict({m.value: nn.Parameter(torch.zeros(channels)) for m in self.modalities})

        self.there, self.filled = table(width), table(width)
        self.null = table(width - self.translated)

    def translate(self, latent: Tensor, source: Modality, target: Modality) -> Tensor:
        """What a sensor's latent (B, C, h, w) tells of another's; depends on nothing else."""
        return self.translators.translate(latent[:, : self.translated], source, target)

    def forward(
        self,
        latents: Mapping[Modality, Tensor],
        present: Mapping[Modality, Tensor],
        targets: Sequence[Modality],
        precision: Mapping[Modality, Tensor] | None = None,
        swap: Swap | None = None,
        ready: Mapping[Modality, Mapping[Modality, Tensor]] | None = None,
        row: Tensor | None = None,
    ) -> dict[Modality, Tensor]:
        """Tokens of the targets.

        Args:
            latents: per sensor (B, C, h, w); anything where absent.
            present: per sensor bool (B,).
            targets: sensors whose tokens are wanted.
            precision: see `Translators.fill`.
            swap: replacements of a training pass.
            ready: per target, per source what `translate` made of its latent; None = it is made here.
            row: of the flags, see `availability`.

        Returns:
            Per target (B, C, h, w), finite, independent of what absent sensors' latents hold.
        """
        clean = {m: torch.where(pick_map(present[m], row), latents[m], 0.0) for m in self.modalities}
        shared = {m: x[:, : self.translated] for m, x in clean.items()}
        tokens: dict[Modality, Tensor] = {}
        for target in targets:
            name = target.value
            own = latents[target] + self.there[name][:, None, None]
            replaced = ~present[target] if swap is None else ~present[target] | swap.replaced[target]
            # A graph holds both ways; a running network takes the one it needs.
            if not torch.compiler.is_compiling() and not bool(replaced.any()):
                tokens[target] = own
                continue
            usable = present if swap is None else {m: present[m] & u for m, u in swap.usable[target].items()}
            made = None if ready is None else ready[target]
            guess = self.translators.fill(shared, target, usable, precision, made, row)
            filled = self.filled[name][: self.translated, None, None]
            unknown = (self.filled[name][self.translated :] + self.null[name])[:, None, None]
            guess = torch.cat([guess + filled, unknown.expand(len(guess), -1, *guess.shape[2:])], dim=1)
            tokens[target] = torch.where(pick_map(replaced, row), guess, own)
        return tokens
