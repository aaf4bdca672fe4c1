"""The bank: adapters of many patterns on one frozen network, within a budget each.

A layer whose path names a sensor serves the patterns with that sensor: `encoders.rgb...`, and so the gates of
rgb in the fusion [X]. One whose path names several, a translator (`rgb-depth`), serves the patterns with some
of them and not all: it fills in what is missing. Any other serves all patterns. With u_l the cost of layer l
(`adapters.py`), P the parameters of the frozen network without what only its training needed, and L_c the
layers that serve c, a pattern costs

    n_c = r_c sum_{l in L_c} u_l  <=  budget P     r_c: the largest rank that fits; 1 where a kind has none

(Reza et al., arXiv 2310.03986, report less than 0.7 % of P.) Where not even r_c = 1 fits, that is an error,
or, if so configured, L_c loses all layers dearer than some u, the largest with which the rest fits [X].

Everything but the rows is frozen, running statistics of norms included: batches of one pattern must not move
what all patterns share.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from robust_perception.model.adapters import KINDS, Adapter, Layer
from robust_perception.model.errors import ModelError
from robust_perception.model.pattern_selection import ROWS, PatternSelection
from robust_perception.model.resolution import is_wide, stride_of
from robust_perception.vocabulary import Modality, Pattern

CHILD = "adapter"
"""Name of the adapter in its layer; the layer's own parameters keep their names."""

NetworkT = TypeVar("NetworkT", bound=nn.Module)


@dataclass(frozen=True)
class AdapterConfig:
    """What adapters are made of.

    Attributes:
        kind: "lora", "ssf" or "bitfit".
        budget: share of the network's parameters a pattern may cost, in (0, 1].
        rank: largest rank of lora.
        alpha_over_rank: a/r, factor of lora's change.
        places: modules that are adapted with all in them, as prefixes of dotted names.
        frozen: parts of dotted names that are never adapted: what all patterns share stays comparable.
        finest_stride: layers with smaller cells, in pixels of the image a side, are not adapted; 1 = all are.
        wide: whether the wide layers inside a backbone's blocks are adapted, not their narrow ends alone.
        leave_out: where a pattern's layers exceed the budget, leave out the dearest instead of refusing.
        seed: of lora's A.
    """

    kind: str = "ssf"
    budget: float = 0.007
    rank: int = 8
    alpha_over_rank: float = 1.0
    places: tuple[str, ...] = ("encoders", "representers", "fusion")
    frozen: tuple[str, ...] = (
        "fusion.segmentation", "fusion.detection", "fusion.scene", "unimodal", "logvar", "log_variance",
    )  # fmt: skip
    finest_stride: int = 1
    wide: bool = True
    leave_out: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            msg = f"kind of adapter: expected one of {', '.join(KINDS)}, got {self.kind!r}"
            raise ModelError(msg)
        if not 0.0 < self.budget <= 1.0:
            msg = f"budget is a share in (0, 1], got {self.budget}"
            raise ModelError(msg)
        if self.rank < 1:
            msg = f"rank is at least 1, got {self.rank}"
            raise ModelError(msg)
        if not (math.isfinite(self.alpha_over_rank) and self.alpha_over_rank > 0.0):
            msg = f"alpha_over_rank is positive, got {self.alpha_over_rank}"
            raise ModelError(msg)
        if self.finest_stride < 1:
            msg = f"finest_stride is at least 1, got {self.finest_stride}"
            raise ModelError(msg)
        if not self.places:
            msg = "places names at least one part of the network, got none"
            raise ModelError(msg)


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation that stays with its running statistics, whatever mode the network is in."""

    def train(self, mode: bool = True) -> FrozenBatchNorm2d:
        """Evaluation mode either way."""
        super().train(False)
        return self


@dataclass(frozen=True)
class AdapterBank:
    """The adapters of a network, pattern by pattern.

    Attributes:
        config: as attached.
        patterns: that have rows.
        adapters: by the name of their layer.
        ranks: by pattern; 1 where the kind has none.
        base: P, parameters of the frozen network.
        selection: what the adapters follow; run layers within `selection.of(pattern)`.
    """

    config: AdapterConfig
    patterns: tuple[Pattern, ...]
    adapters: Mapping[str, Adapter]
    ranks: Mapping[Pattern, int]
    base: int
    selection: PatternSelection

    def parameters_of(self, pattern: Pattern) -> list[nn.Parameter]:
        """What training for this pattern trains; nothing for a pattern without rows."""
        return [parameter for adapter in self.adapters.values() for parameter in adapter.row(pattern)]

    @torch.no_grad()
    def reset(self, pattern: Pattern) -> None:
        """Make this pattern's rows change nothing again."""
        for adapter in self.adapters.values():
            for value, row in zip(adapter.identity, adapter.row(pattern), strict=False):
                row.fill_(value)

    def count(self, pattern: Pattern) -> int:
        """n_c, numbers stored for this pattern."""
        return sum(parameter.numel() for parameter in self.parameters_of(pattern))

    def share(self, pattern: Pattern) -> float:
        """n_c / P."""
        return self.count(pattern) / self.base


@dataclass(frozen=True)
class Plan:
    """Which layers get rows.

    Attributes:
        layers: that may get some, by name.
        patterns: names of the layers that a pattern gets rows in, and its rank.
        base: P, parameters of the network without what only its training needed.
    """

    layers: Mapping[str, Layer]
    patterns: Mapping[Pattern, tuple[list[str], int]]
    base: int


def plan(
    network: nn.Module, config: AdapterConfig, patterns: Sequence[Pattern], modalities: Sequence[Modality]
) -> Plan:
    """What `attach` would do; the network stays as it is. Arguments and errors are those of `attach`."""
    if adapters_of(network):
        msg = "the network has adapters already: detach them first"
        raise ModelError(msg)
    chosen = tuple(dict.fromkeys(patterns))
    if not chosen or any(m not in modalities for pattern in chosen for m in pattern):
        known = "+".join(m.value for m in modalities)
        msg = f"patterns to adapt: expected one or more out of {known}, got {[str(p) for p in chosen]}"
        raise ModelError(msg)
    served = getattr(network, "served_parameters", network.parameters)  # what only training needs is no base
    base = sum(parameter.numel() for parameter in served())
    layers = _places(network, config)
    return Plan(layers, {p: _plan(layers, p, config, base, modalities) for p in chosen}, base)


def attach(
    network: nn.Module, config: AdapterConfig, patterns: Sequence[Pattern], modalities: Sequence[Modality]
) -> AdapterBank:
    """Freeze a network and give these patterns adapters, which change nothing yet.

    Adapters become children of their layers, so that they move, copy and export with them. If the network has
    a `selection`, they follow that.

    Args:
        network: base; changed in place, by nothing if this fails.
        config: what to attach.
        patterns: that get rows; the others keep the frozen network bit for bit.
        modalities: of the network.

    Raises:
        ModelError: the network has adapters, a pattern or a place does not fit it, or a pattern costs more
            than the budget.
    """
    planned = plan(network, config, patterns, modalities)
    network.requires_grad_(False)
    for module in list(network.modules()):
        if type(module) is nn.BatchNorm2d:
            module.__class__ = FrozenBatchNorm2d
            module.eval()
    selection = getattr(network, "selection", None)
    if not isinstance(selection, PatternSelection):
        selection = PatternSelection()
    for pattern, (names, rank) in planned.patterns.items():
        # A seed a pattern: the start of one does not depend on which others are trained beside it.
        generator = torch.Generator().manual_seed(config.seed * ROWS + pattern.bits)
        for name in names:
            layer = planned.layers[name]
            if not hasattr(layer, CHILD):
                adapter = KINDS[config.kind](layer, selection, config.alpha_over_rank)
                layer.add_module(CHILD, adapter)
                adapter.handle = layer.register_forward_hook(_adapt)
            cast(Adapter, layer.get_submodule(CHILD)).add(layer, pattern, rank, generator)
    ranks = {pattern: rank for pattern, (_, rank) in planned.patterns.items()}
    return AdapterBank(config, tuple(ranks), adapters_of(network), ranks, planned.base, selection)


def _adapt(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return cast(Tensor, layer.get_submodule(CHILD)(layer, inputs[0], output))


def _places(network: nn.Module, config: AdapterConfig) -> dict[str, Layer]:
    """Layers that may get rows, by name."""
    found: dict[str, Layer] = {}
    cost = KINDS[config.kind].cost
    for name, module in network.named_modules():
        inside = any(name == place or name.startswith(f"{place}.") for place in config.places)
        if not inside or any(part in name for part in config.frozen) or not cost(module):
            continue
        if (stride_of(name) or math.inf) < config.finest_stride or (is_wide(name) and not config.wide):
            continue
        if isinstance(module, nn.Conv2d) and type(module).forward is not nn.Conv2d.forward:
            msg = f"{name}: {type(module).__name__} must override _conv_forward, not forward, to be adapted"
            raise ModelError(msg)
        found[name] = cast(Layer, module)
    parts = {name for name, _ in network.named_modules()}
    for place in config.places:
        if place not in parts:
            known = [name for name, _ in network.named_children()]
            msg = f"place {place!r}: expected a module of the network, which has {known} and what is in them"
            raise ModelError(msg)
    return found


def _serves(name: str, pattern: Pattern, modalities: Sequence[Modality]) -> bool:
    """Whether a layer of this name works for a pattern; see the head of this file."""
    present = {m.value: m in pattern for m in modalities}
    for part in name.split("."):
        sensors = part.split("-")
        if all(sensor in present for sensor in sensors):
            here = sum(present[sensor] for sensor in sensors)
            if here == 0 or (here == len(sensors) > 1):
                return False
    return True


def _plan(
    places: Mapping[str, Layer],
    pattern: Pattern,
    config: AdapterConfig,
    base: int,
    modalities: Sequence[Modality],
) -> tuple[list[str], int]:
    """Names of the layers that get a row for this pattern, and its rank."""
    unit = KINDS[config.kind].cost
    costs = {name: unit(layer) for name, layer in places.items() if _serves(name, pattern, modalities)}
    cost, allowed = sum(costs.values()), math.floor(config.budget * base)
    if not costs:
        msg = f"no layer in places {list(config.places)} serves {pattern}: name more places or fewer patterns"
        raise ModelError(msg)
    if cost <= allowed:
        return list(costs), min(config.rank, allowed // cost) if config.kind == "lora" else 1
    cheapest = sum(c for c in costs.values() if c == min(costs.values()))
    if not config.leave_out or cheapest > allowed:
        msg = (
            f"{config.kind} for {pattern}: costs {cost} parameters{' at rank 1' * (config.kind == 'lora')}, "
            f"{cost / base:.2%} of the network's {base}; the budget is {allowed} ({config.budget:.2%}): "
            "adapt fewer places, freeze more, raise the budget or set leave_out"
        )
        raise ModelError(msg)
    # Whole price classes: sensors of one kind of encoder are left the same layers.
    dearest = max(p for p in costs.values() if sum(c for c in costs.values() if c <= p) <= allowed)
    return [name for name in costs if costs[name] <= dearest], 1


def adapters_of(network: nn.Module) -> dict[str, Adapter]:
    """Its adapters by the name of their layer."""
    return {
        name.removesuffix(CHILD).removesuffix("."): module
        for name, module in network.named_modules()
        if isinstance(module, Adapter)
    }


def detach(network: nn.Module) -> None:
    """Take all adapters off; what is left is the plain network, its parameters still without gradient."""
    for name, adapter in adapters_of(network).items():
        assert adapter.handle is not None
        adapter.handle.remove()
        delattr(network.get_submodule(name), CHILD)
    for module in network.modules():
        if isinstance(module, FrozenBatchNorm2d):
            cast(nn.Module, module).__class__ = nn.BatchNorm2d


@torch.no_grad()
def merge(network: NetworkT, pattern: Pattern) -> NetworkT:
    """A plain copy with a pattern's rows folded into its weights; the frozen base for one without rows.

    Args:
        network: with adapters; stays as it is.
        pattern: to serve.

    Raises:
        ModelError: the network is a copy for tracing (`adapter_merging`).
    """
    if any(adapter.tabulated for adapter in adapters_of(network).values()):
        msg = "a copy made for tracing has tables, not rows: merge the network it was made from"
        raise ModelError(msg)
    plain = copy.deepcopy(network)
    for name, adapter in adapters_of(plain).items():
        if adapter.row(pattern):
            adapter.fold(cast(Layer, plain.get_submodule(name)), pattern)
    detach(plain)
    return plain


def adapter_state(network: nn.Module) -> dict[str, Tensor]:
    """All rows by their names in the network's state; base weights are not among them."""
    return {
        ".".join(filter(None, (name, CHILD, key))): value
        for name, adapter in adapters_of(network).items()
        for key, value in adapter.state_dict().items()
    }
