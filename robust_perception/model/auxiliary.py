"""What only training needs; no exported graph has it.

token decoders     D_v of CyIN's token-level bottleneck, one a target sensor and level
unimodal heads     P_m of its label-level bottleneck: class map of p4, or scene classes of the sound
rebuilders         D_i of Robult's latent reconstruction
projections        p_0 of the fused latent and p of the sensors', for Robult's contrast
decoder            DMRNet's and MMANet's second decoder, for hard combinations
"""

from __future__ import annotations

from torch import nn

from robust_perception.model.alignment import Projection
from robust_perception.model.bottleneck import TokenDecoder
from robust_perception.model.heads import SegmentationHead
from robust_perception.model.representation import compressed_levels
from robust_perception.vocabulary import Modality

UNIMODAL_LEVEL = 0
"""Index in `TRANSLATED` of the level that unimodal heads and regions look at: at p5 objects are gone."""


class AuxiliaryHeads(nn.Module):
    """All of them; those of a part that is switched off are empty.

    Args:
        modalities: sensors.
        width: C.
        fine_width: C_2.
        sources: channels of the encoders' latents by sensor.
        hidden: of the bottleneck, 0 = none.
        shared: whether there is a split.
        decoder: whether there is a second decoder.
        classes: of the label map.
        scenes: scene classes.
    """

    def __init__(
        self,
        modalities: tuple[Modality, ...],
        width: int,
        fine_width: int,
        sources: dict[Modality, int],
        hidden: int,
        shared: bool,
        decoder: bool,
        classes: int,
        scenes: int,
    ) -> None:
        super().__init__()
        self.token_decoders = nn.ModuleDict()
        self.unimodal = nn.ModuleDict()
        self.rebuilders = nn.ModuleDict()
        self.projections = nn.ModuleDict()
        for m in modalities:
            if hidden:
                for level in compressed_levels(m):
                    self.token_decoders[f"{level}_{m.value}"] = TokenDecoder(width, hidden, sources[m])
                outputs = classes if m.is_image else scenes
                if outputs:
                    self.unimodal[m.value] = nn.Conv2d(width, outputs, 1)
            if shared:
                for level in compressed_levels(m):
                    self.rebuilders[f"{level}_{m.value}"] = TokenDecoder(width, width, width)
                if m.is_image:
                    self.projections[m.value] = Projection(width // 2)
        if shared:
            self.projections["fused"] = Projection(width)
        self.decoder = SegmentationHead(width, fine_width, classes) if decoder else None
