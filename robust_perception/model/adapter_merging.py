"""A bank as part of a graph: merged into the gathered weights, or a side path, whichever is the cheaper.

With p the pattern, t[p] row p of a table of all 16 patterns, and W, b a layer's frozen weights,

    ssf      W[p] = diag(g[p]) W,         b[p] = g[p] b + s[p]
    bitfit   W[p] = W,                    b[p] = b + d[p]
    lora     W[p] = W + (a/r) B[p] A[p],  b[p] = b

A convolution without bias gives to a batch normalisation, which in evaluation mode is one more scale
k = gamma / sigma and shift a channel. It is folded first, so that one convolution is left of two layers:

    W = diag(k) W_conv,    b = beta - k mu,    and for lora B[p] <- diag(k) B[p]

Merging costs a pass over the weights; the side path y + change(x, y) costs passes over the activations. With
i, o channels in and out, a k x k kernel and n cells of the map, merging is done where

    ssf      n o > i k k o,  so  n > i k k
    lora     n r (i k k + o) > i k k o r,  so  n > i k k o / (i k k + o)

and counting does not tell all: a runtime that knows a convolution's weights and bias beforehand lays them out
in blocks, and the activations around it too. So, as `benchmarks/adapter_costs.py --latency` measured it,

    a convolution whose bias alone would change   keeps the side path
    a depthwise convolution                       too: with weights of no constant it runs channel by channel
    norms that are no batch norms                 are always merged: scale and shift are inputs like any other

In eight bits a weight needs a scale that is fixed, so there all convolutions and products keep the side path.
"""

from __future__ import annotations

import copy
import itertools
import math
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from robust_perception.model.adapter_bank import CHILD, adapters_of
from robust_perception.model.adapters import Adapter, BiasShift, Layer, LowRank

NetworkT = TypeVar("NetworkT", bound=nn.Module)


class Blended(nn.Module):
    """A layer under the selected pattern, for graphs: batches of one.

    Args:
        layer: with an adapter that has tables, and no hook of it.
        fixed: whether weights of convolutions and products must stay constants.
    """

    def __init__(self, layer: nn.Module, fixed: bool) -> None:
        super().__init__()
        self.layer = layer
        self.fixed = fixed

    def forward(self, x: Tensor) -> Tensor:
        """The layer's input -> its adapted output."""
        layer = cast(Layer, self.layer)
        adapter = cast(Adapter, self.layer.get_submodule(CHILD))
        if not self._merges(layer, adapter, x):
            h: Tensor = self.layer(x)
            return cast(Tensor, adapter(layer, x, h))
        weight, bias = adapter.blended(layer)
        weights = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
        return torch.func.functional_call(self.layer, weights, (x,))  # type: ignore[no-any-return]

    def _merges(self, layer: Layer, adapter: Adapter, x: Tensor) -> bool:
        if isinstance(layer, nn.BatchNorm2d):
            return False
        if not isinstance(layer, (nn.Conv2d, nn.Linear)):
            return True
        if self.fixed or isinstance(adapter, BiasShift):
            return False
        cells, out, into = 1, len(layer.weight), layer.weight[0].numel()
        if isinstance(layer, nn.Conv2d):
            if layer.groups != 1:
                return False
            cells = math.prod(-(-side // step) for side, step in zip(x.shape[2:], layer.stride, strict=True))
        limit = into * out / (into + out) if isinstance(adapter, LowRank) else into
        return cells > limit


@torch.no_grad()
def merge_in_graph(network: NetworkT, fixed: bool = False) -> NetworkT:
    """A copy to trace, whose layers follow the pattern at the least cost.

    Args:
        network: with adapters, in evaluation mode; stays as it is. The copy takes batches of one.
        fixed: keep the weights of convolutions and products constants, for eight bits.
    """
    traced = copy.deepcopy(network)
    for module in list(traced.modules()):
        _fold_norms(module)
    for name, adapter in adapters_of(traced).items():
        adapter.tabulate()
        if adapter.handle is not None:
            adapter.handle.remove()
        holder, _, child = name.rpartition(".")
        setattr(traced.get_submodule(holder), child, Blended(traced.get_submodule(name), fixed))
    return traced


def _fold_norms(parent: nn.Module) -> None:
    """Make one layer of each dense convolution and the batch norm behind it, if either has an adapter."""
    children = list(parent.named_children())
    for (_, conv), (name, norm) in itertools.pairwise(children):
        if not (isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)):
            continue
        adapter = getattr(conv, CHILD, getattr(norm, CHILD, None))
        if conv.bias is not None or conv.groups != 1 or adapter is None:
            continue
        assert norm.running_var is not None
        assert norm.running_mean is not None
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        conv.weight.mul_(scale[:, None, None, None])
        conv.bias = nn.Parameter(norm.bias - norm.running_mean * scale, requires_grad=False)
        if isinstance(adapter, LowRank):
            for up in adapter.up.values():
                up.mul_(scale[:, None, None, None])
        else:
            conv.add_module(CHILD, adapter)
        setattr(parent, name, nn.Identity())
