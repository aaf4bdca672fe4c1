"""Adapters: a few parameters a pattern, beside the layers of a frozen network.

One network is trained for all patterns, then frozen; each pattern c learns a small change of its own (Reza et
al., arXiv 2310.03986). With h = W x + b a layer's frozen output, c picks one row of the layer's adapter:

    lora     h + (a/r) B_c A_c x    A_c (r, d_in), B_c (d_out, r); B_c = 0 at first (Hu et al., 2106.09685)
    ssf      g_c * h + s_c          one of each a channel; g_c = 1, s_c = 0 at first (Lian et al., 2210.08823)
    bitfit   h + d_c                one a bias there is; d_c = 0 at first (Ben Zaken et al., 2106.10199)

so that at first nothing changes, and each folds into the layer it sits on:

    lora     W' = W + (a/r) B_c A_c
    ssf      W' = diag(g_c) W,  b' = g_c b + s_c
    bitfit   b' = b + d_c

A convolution's A_c is a k x k convolution to r channels and its B_c a 1 x 1 one. A norm's "W" is its
channel-wise weight. What the papers leave open, and how it is settled here [X]:

    - ssf sits where there is a bias to fold s_c into: a convolution without one is followed by a norm, which
      carries the change for both [X];
    - depthwise convolutions and norms get no lora [X];
    - a/r is one constant for all ranks: a row of low rank is one of high rank whose last columns are 0 [X];
    - every row is a parameter of its own, so that no step on one pattern moves another's row [X].
"""

from __future__ import annotations

import math
from typing import Union

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from robust_perception.model.encoders import ChannelNorm
from robust_perception.model.errors import ModelError
from robust_perception.model.pattern_selection import ROWS, PatternSelection
from robust_perception.vocabulary import Pattern

NORMS = (nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm, ChannelNorm)
Layer = Union[nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm, ChannelNorm]  # noqa: UP007


class Adapter(nn.Module):
    """Rows of one layer; a subclass is a kind. It is a child of its layer and changes the layer's output.

    Layers take the batch first. For tracing, tables of all 16 rows take the rows' place (`adapter_merging`):
    a graph gathers from them, and the rows themselves would be thousands of its nodes.

    Args:
        layer: it is for.
        selection: whose pattern it follows.
        factor: a/r; of no meaning to kinds without ranks.
    """

    identity: tuple[float, ...]
    """By part, the value that changes nothing and fills tables."""

    def __init__(self, layer: Layer, selection: PatternSelection, factor: float) -> None:
        super().__init__()
        self.selection = selection
        self.factor = factor
        self.axis = -1 if isinstance(layer, (nn.Linear, nn.LayerNorm)) else 1
        self.handle: RemovableHandle | None = None
        self.tabulated = False
        self.shapes: list[torch.Size] = []
        """Of a row, by part, once there are tables."""

    @classmethod
    def cost(cls, layer: nn.Module) -> int:
        """Parameters a row for this layer has, per rank if the kind has ranks; 0 = no place for one."""
        raise NotImplementedError

    def parts(self) -> tuple[nn.ParameterDict, ...]:
        """The tensors a row is made of, each by the pattern's bits."""
        raise NotImplementedError

    def add(self, layer: Layer, pattern: Pattern, rank: int, generator: torch.Generator) -> None:
        """Give a pattern a row, which changes nothing yet."""
        raise NotImplementedError

    def change(self, layer: Layer, x: Tensor, h: Tensor) -> Tensor:
        """The layer's input and output -> its adapted output."""
        raise NotImplementedError

    def folded(self, weight: Tensor, bias: Tensor | None, *row: Tensor) -> tuple[Tensor, Tensor | None]:
        """A layer's weight and bias with a row in them; `row` is one tensor a part."""
        raise NotImplementedError

    def fold(self, layer: Layer, pattern: Pattern) -> None:
        """Write the pattern's row into the layer's own weights."""
        weight, bias = self.folded(layer.weight, layer.bias, *self.row(pattern))
        layer.weight.copy_(weight)
        if bias is not None:
            _bias(layer).copy_(bias)

    def blended(self, layer: Layer) -> tuple[Tensor, Tensor | None]:
        """The layer's weight and bias under the selected pattern, from tables and for one sample."""
        return self.folded(layer.weight, layer.bias, *self.tabulated_row())

    def tabulated_row(self) -> list[Tensor]:
        """The selected pattern's row out of tables, for one sample."""
        return [self.pick(part).reshape(self.shapes[part]) for part in range(len(self.identity))]

    def row(self, pattern: Pattern) -> list[nn.Parameter]:
        """The pattern's parameters here; none when it has no row."""
        key = str(pattern.bits)
        return [part[key] for part in self.parts() if key in part]

    def changes(self, pattern: Pattern) -> bool:
        """Whether the pattern's row changes anything."""
        pairs = zip(self.row(pattern), self.identity, strict=False)
        return any(bool((part != value).any()) for part, value in pairs)

    def forward(self, layer: Layer, x: Tensor, h: Tensor) -> Tensor:
        """The layer's input and output -> its adapted output; exactly `h` for patterns without a row."""
        rows = self.selection.rows
        if self.selection.pattern is None:
            msg = (
                "an adapted layer ran and no pattern was selected: run it within its selection's of(pattern)"
            )
            raise ModelError(msg)
        if self.tabulated:
            return self.change(layer, x, h)
        if torch.compiler.is_compiling():
            msg = "a network with adapters cannot be traced as it is: trace the copy of `merge_in_graph`"
            raise ModelError(msg)
        if not any(str(bits) in self.parts()[0] for bits in rows):
            return h
        if len(self.selection.index) not in (1, h.shape[0]) and len(rows) > 1:
            msg = (
                f"{len(self.selection.index)} samples have patterns of their own, but an adapted layer sees "
                f"{h.shape[0]} samples: give it samples of one pattern at a time"
            )
            raise ModelError(msg)
        return self.change(layer, x, h)

    def pick(self, part: int) -> Tensor:
        """Rows of a part: (1, ...) when the whole batch has one pattern, else (B, ...)."""
        if self.tabulated:
            if self.selection.pattern is None or len(self.selection.pattern) != 1:
                msg = f"tables serve batches of one, got the patterns {self.selection.pattern}"
                raise ModelError(msg)
            # A row of a flat table is one Gather in graphs; an index in brackets would be a GatherND.
            row = F.embedding(self.selection.pattern[0], self.get_buffer(f"table_{part}"))
            return row.reshape(1, *self.shapes[part])
        # Only rows of the batch's patterns: one that is not in the graph gets no gradient, not one of zeros.
        rows, stored = self.selection.rows, self.parts()[part]
        none = torch.full_like(next(iter(stored.values())), self.identity[part])
        table = torch.stack([stored.get(str(bits), none) for bits in rows])
        return table if len(rows) == 1 else table[self.selection.index]

    @torch.no_grad()
    def tabulate(self) -> None:
        """Put the rows of each part into one tensor (16, length), those of low rank filled up."""
        for index, part in enumerate(self.parts()):
            rows = {int(key): row for key, row in part.items()}
            largest = [max(sides) for sides in zip(*(row.shape for row in rows.values()), strict=True)]
            table = next(iter(rows.values())).new_full((ROWS, *largest), self.identity[index])
            for bits, row in rows.items():
                table[(bits, *map(slice, row.shape))] = row
            self.register_buffer(f"table_{index}", table.flatten(1))
            self.shapes.append(table.shape[1:])
            part.clear()
        self.tabulated = True

    def spread(self, values: Tensor, h: Tensor) -> Tensor:
        """(1 or B, C) -> the same with axes of length 1 between, to go with the layer's output."""
        shape = [1] * h.ndim
        shape[0], shape[self.axis] = values.shape[0], values.shape[1]
        return values.reshape(shape)


class ScaleShift(Adapter):
    """SSF: h' = g_c * h + s_c. Never decay g_c: it would go to 0, not to 1."""

    identity = (1.0, 0.0)

    def __init__(self, layer: Layer, selection: PatternSelection, factor: float) -> None:
        super().__init__(layer, selection, factor)
        self.scale, self.shift = nn.ParameterDict(), nn.ParameterDict()

    @classmethod
    def cost(cls, layer: nn.Module) -> int:
        """2 d_out where there is a bias."""
        return 2 * _biases(layer)

    def parts(self) -> tuple[nn.ParameterDict, ...]:
        """g, s; each (d_out,)."""
        return self.scale, self.shift

    def add(self, layer: Layer, pattern: Pattern, rank: int, generator: torch.Generator) -> None:
        """Start at g = 1, s = 0."""
        self.scale[str(pattern.bits)] = nn.Parameter(torch.ones_like(_bias(layer)))
        self.shift[str(pattern.bits)] = nn.Parameter(torch.zeros_like(_bias(layer)))

    def change(self, layer: Layer, x: Tensor, h: Tensor) -> Tensor:
        """See `Adapter`."""
        return self.spread(self.pick(0), h) * h + self.spread(self.pick(1), h)

    def folded(self, weight: Tensor, bias: Tensor | None, *row: Tensor) -> tuple[Tensor, Tensor | None]:
        """W' = diag(g) W, b' = g b + s."""
        scale, shift = row
        assert bias is not None  # `cost` saw to it
        return scale.reshape(-1, *[1] * (weight.ndim - 1)) * weight, scale * bias + shift


class BiasShift(Adapter):
    """BitFit: h' = h + d_c."""

    identity = (0.0,)

    def __init__(self, layer: Layer, selection: PatternSelection, factor: float) -> None:
        super().__init__(layer, selection, factor)
        self.delta = nn.ParameterDict()

    @classmethod
    def cost(cls, layer: nn.Module) -> int:
        """d_out where there is a bias."""
        return _biases(layer)

    def parts(self) -> tuple[nn.ParameterDict, ...]:
        """d; (d_out,)."""
        return (self.delta,)

    def add(self, layer: Layer, pattern: Pattern, rank: int, generator: torch.Generator) -> None:
        """Start at d = 0."""
        self.delta[str(pattern.bits)] = nn.Parameter(torch.zeros_like(_bias(layer)))

    def change(self, layer: Layer, x: Tensor, h: Tensor) -> Tensor:
        """See `Adapter`."""
        return h + self.spread(self.pick(0), h)

    def folded(self, weight: Tensor, bias: Tensor | None, *row: Tensor) -> tuple[Tensor, Tensor | None]:
        """W' = W, b' = b + d."""
        assert bias is not None  # `cost` saw to it
        return weight, bias + row[0]


class LowRank(Adapter):
    """LoRA: h' = h + (a/r) B_c A_c x.

    Rows are stored in the rank they have; only a table fills them up.
    """

    identity = (0.0, 0.0)

    def __init__(self, layer: Layer, selection: PatternSelection, factor: float) -> None:
        super().__init__(layer, selection, factor)
        self.down, self.up = nn.ParameterDict(), nn.ParameterDict()

    @classmethod
    def cost(cls, layer: nn.Module) -> int:
        """d_in k k + d_out per rank, for linear layers and dense convolutions."""
        if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1):
            return layer.weight[0].numel() + layer.weight.shape[0]
        return 0

    def parts(self) -> tuple[nn.ParameterDict, ...]:
        """A (r, d_in) or (r, d_in, k, k); B (d_out, r) or (d_out, r, 1, 1)."""
        return self.down, self.up

    def add(self, layer: Layer, pattern: Pattern, rank: int, generator: torch.Generator) -> None:
        """A like a fresh layer's weights, U(-1, 1) / sqrt(fan in); B = 0."""
        weight = layer.weight
        down = nn.init.kaiming_uniform_(
            torch.empty(rank, *weight.shape[1:]), a=math.sqrt(5.0), generator=generator
        )
        self.down[str(pattern.bits)] = nn.Parameter(down.to(weight))
        self.up[str(pattern.bits)] = nn.Parameter(
            weight.new_zeros(len(weight), rank, *[1] * (weight.ndim - 2))
        )

    def changes(self, pattern: Pattern) -> bool:
        """Not while B is 0, whatever A is."""
        return any(bool((up != 0).any()) for up in self.row(pattern)[1:])

    def change(self, layer: Layer, x: Tensor, h: Tensor) -> Tensor:
        """See `Adapter`."""
        rows, index = self.selection.rows, self.selection.index
        if self.tabulated:
            down, up = self.tabulated_row()
            return h + self.side(layer, x, down, up)
        for position, bits in enumerate(rows):
            if (key := str(bits)) not in self.down:
                continue
            down, up = self.down[key], self.up[key]
            if len(rows) == 1:
                return h + self.side(layer, x, down, up)
            chosen = (index == position).nonzero()[:, 0]
            h = h.index_add(0, chosen, self.side(layer, x[chosen], down, up))
        return h

    def side(self, layer: Layer, x: Tensor, down: Tensor, up: Tensor) -> Tensor:
        """(a/r) B A x."""
        up = up if self.factor == 1.0 else self.factor * up
        if isinstance(layer, nn.Conv2d):
            return F.conv2d(layer._conv_forward(x, down, None), up)
        return F.linear(F.linear(x, down), up)

    def folded(self, weight: Tensor, bias: Tensor | None, *row: Tensor) -> tuple[Tensor, Tensor | None]:
        """W' = W + (a/r) B A, b' = b."""
        down, up = row
        # One product and sum, in graphs too, and no pass more over the weights.
        flat = torch.addmm(weight.flatten(1), up.flatten(1), down.flatten(1), alpha=self.factor)
        return flat.reshape(weight.shape), bias


KINDS: dict[str, type[Adapter]] = {"lora": LowRank, "ssf": ScaleShift, "bitfit": BiasShift}


def _bias(layer: Layer) -> Tensor:
    assert layer.bias is not None  # `cost` saw to it
    return layer.bias


def _biases(layer: nn.Module) -> int:
    """Length of the bias of a layer that adapters know; 0 without one, or for any other module."""
    if not isinstance(layer, (nn.Conv2d, nn.Linear, *NORMS)):
        return 0
    # A bias of more axes is a norm's over more than the channels.
    return layer.bias.numel() if layer.bias is not None and layer.bias.ndim == 1 else 0
