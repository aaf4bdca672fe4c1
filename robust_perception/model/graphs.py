"""The network as graphs that need no torch: one ONNX file an encoder, one for everything after them.

Shapes are static and the batch is one. Graph inputs are raw measurements; outputs are what a robot wants:
label map, boxes, probabilities. Per graph:

    encoder_<m>   <m> -> <m>_p2 .. <m>_p5, or audio -> audio_vector;
                  under the rule `poe` also the precisions of what is translated;
                  and what follows from them alone: with translators what it tells of other sensors,
                  <m>_p4_as_<n>, ...; at levels that are not completed <m>_p2_gate, <m>_p2_mixed, ...;
                  where it has adapters also pattern int64 (1,) in
    fusion        latents of all sensors, pattern int64 (1,) ->
                  class_scores (1, K + 1, h, w), logits of stride 4, or label_map uint8 (1, H, W),
                  confidence (1,) = mean of the largest class probability, over pixels of stride 4, of the
                  logits divided by the pattern's temperature,
                  box_scores (1, N, K) = sqrt(sigmoid(class) sigmoid(centre-ness)), boxes (1, N, 4) xyxy,
                  scene (1, S) = sigmoid, left out without scene classes
"""

from __future__ import annotations

import contextlib
import copy
import logging
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn

from robust_perception.model.adapter_bank import adapters_of
from robust_perception.model.adapter_merging import merge_in_graph
from robust_perception.model.alone import Alone, flat
from robust_perception.model.encoders import LEVELS
from robust_perception.model.network import FusionNetwork, Latents, Network
from robust_perception.model.pattern_selection import ROWS
from robust_perception.model.representation import compressed_levels
from robust_perception.vocabulary import Modality

OPSET = 18
STRIDE = 4
"""Of the class scores."""
OPERATORS_LOG = "torch.onnx._internal.exporter._registration"
"""Warns once a graph of every operator of torchvision where that is missing; no graph here has one."""

SCORES = "class_scores"
OUTPUTS = ("label_map", "confidence", "box_scores", "boxes", "scene")
"""Of a fusion graph that makes the label map; one that leaves it to the engine has `SCORES` in its place."""


def latent_names(fusion: FusionNetwork, modality: Modality) -> tuple[str, ...]:
    """Names of a sensor's latents."""
    kinds = LEVELS if modality.is_image else ("vector",)
    names = [f"{modality.value}_{kind}" for kind in kinds]
    if fusion.config.translation == "poe":
        names += [f"{modality.value}_{kind}_precision" for kind in compressed_levels(modality)]
    return tuple(names)


def encoder_outputs(fusion: FusionNetwork, modality: Modality) -> tuple[str, ...]:
    """Names of all an encoder's graph gives, in its order."""
    return (*latent_names(fusion, modality), *fusion.alone_keys(modality).names(modality))


class EncoderGraph(nn.Module):
    """A sensor's raw input to what fusion gets of it.

    What follows from it alone is here too, not in the fusion: it costs nothing then while it is lost.
    """

    def __init__(self, network: Network, modality: Modality) -> None:
        super().__init__()
        self.network = network
        self.modality = modality

    def forward(self, raw: Tensor, pattern: Tensor | None = None) -> tuple[Tensor, ...]:
        """One frame, and the pattern where there are adapters -> its latents and what follows from them."""
        with self.network.selection.of(pattern):
            latents = self.network.latents(self.modality, self.network.represent(self.modality, raw))
            return (*latents, *flat(self.network.fusion.alone(self.modality, latents)))


class FusionGraph(nn.Module):
    """`FusionNetwork` with flat inputs and finished outputs.

    Args:
        fusion: the trained half.
        size: (H, W).
        temperatures: by pattern's bits; 1 for those that are left out.
        mapped: whether the graph makes the label map.
    """

    sharpness: Tensor

    def __init__(
        self,
        fusion: FusionNetwork,
        size: tuple[int, int],
        temperatures: Mapping[int, float] = MappingProxyType({}),
        mapped: bool = True,
    ) -> None:
        super().__init__()
        self.fusion = fusion
        self.size = size
        self.mapped = mapped
        sharpness = [1.0 / temperatures.get(bits, 1.0) for bits in range(ROWS)]
        self.register_buffer("sharpness", torch.tensor(sharpness), persistent=False)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """What the encoders gave, in the order of the modalities, then the pattern -> `output_names`."""
        *tensors, pattern = inputs
        given = iter(tensors)
        latents: Latents = {}
        alone: dict[Modality, Alone] = {}
        for modality in self.fusion.config.modalities:
            latents[modality] = tuple(next(given) for _ in latent_names(self.fusion, modality))
            alone[modality] = self.fusion.alone_keys(modality).unflatten(given)
        out = self.fusion(latents, pattern, self.size if self.mapped else None, alone)
        # The largest softmax is 1 / sum exp(l - l_max): no need to make the others.
        below = out.coarse - out.coarse.amax(dim=1, keepdim=True)
        sharpness = self.sharpness[pattern][:, None, None, None]
        probability = 1.0 / torch.exp(sharpness * below).sum(dim=1)
        found = out.detections
        scores = torch.sqrt(torch.sigmoid(found.class_logits) * torch.sigmoid(found.centre_logits)[..., None])
        classes = out.segmentation.argmax(dim=1).to(torch.uint8) if self.mapped else out.coarse
        results = [classes, probability.mean(dim=(1, 2)), scores, found.boxes]
        return tuple(results + ([torch.sigmoid(out.scene)] if out.scene is not None else []))


def output_names(scene: bool, mapped: bool) -> tuple[str, ...]:
    """Of a fusion graph, in its order."""
    outputs = OUTPUTS if mapped else (SCORES, *OUTPUTS[1:])
    return outputs if scene else outputs[:-1]


def example_inputs(network: Network, size: tuple[int, int]) -> dict[Modality, Tensor]:
    """Inputs of the right shapes, batch 1, in the order of the network's modalities."""
    height, width = size
    kinds = {
        Modality.RGB: torch.zeros(1, height, width, 3, dtype=torch.uint8),
        Modality.DEPTH: torch.ones(1, height, width),
        Modality.THERMAL: torch.full((1, height, width), 295.0),
        Modality.AUDIO: torch.zeros(1, 16000),
    }
    return {m: kinds[m] for m in network.config.modalities}


def follows_pattern(network: Network, modality: Modality) -> bool:
    """Whether what a sensor's encoder graph gives depends on the pattern: it runs a layer with adapters.

    That are layers of its own, and translators from it to others.
    """
    parts = [name.split(".") for name in adapters_of(network)]
    own = any(p[0] != "fusion" and modality.value in p for p in parts)
    return own or any("pairs" in p and modality.value in p[p.index("pairs") + 1].split("-") for p in parts)


def adapted_graphs(network: Network) -> list[str]:
    """Names of the graphs that run a layer with adapters; of the fusion's, translators run in encoders."""
    parts = [name.split(".") for name in adapters_of(network)]
    fusion = any(p[0] == "fusion" and "pairs" not in p for p in parts)
    encoders = [f"encoder_{m.value}" for m in network.config.modalities if follows_pattern(network, m)]
    return encoders + ["fusion"] * fusion


@torch.no_grad()
def write_graphs(
    network: Network,
    size: tuple[int, int],
    folder: Path,
    temperatures: Mapping[int, float] = MappingProxyType({}),
    fixed: bool = False,
    only: Collection[str] | None = None,
    mapped: bool = True,
) -> dict[str, Path]:
    """Write the graphs of a network; return their files by name.

    Args:
        network: in evaluation mode.
        size: (H, W) of the images.
        folder: exists.
        temperatures: see `FusionGraph`.
        fixed: keep the weights of convolutions and products constants, adapters or not (`adapter_merging`):
            what eight bits are made of.
        only: names of the graphs that are wanted; None = all.
        mapped: whether the fusion makes the label map, which GPUs are quick at. Of sides that 4 does not
            divide it always does.
    """
    network.eval()
    network = merge_in_graph(network, fixed) if adapters_of(network) else copy.deepcopy(network)
    network.fusion.propose_ahead()
    inputs = example_inputs(network, size)
    files: dict[str, Path] = {}
    names: list[str] = []
    tensors: list[Tensor] = []
    pattern = torch.tensor([1], dtype=torch.int64)
    for modality, example in inputs.items():
        name = f"encoder_{modality.value}"
        graph = EncoderGraph(network, modality)
        outputs = encoder_outputs(network.fusion, modality)
        follows = follows_pattern(network, modality)
        given = (example, pattern) if follows else (example,)
        if only is None or name in only:
            files[name] = folder / f"{name}.onnx"
            _write(graph, given, files[name], [modality.value, "pattern"][: len(given)], outputs)
        names += outputs
        tensors += graph(*given)
    if only is None or "fusion" in only:
        mapped = mapped or size[0] % STRIDE > 0 or size[1] % STRIDE > 0
        outputs = output_names(bool(network.config.scene_names), mapped)
        files["fusion"] = folder / "fusion.onnx"
        fusion = FusionGraph(network.fusion, size, temperatures, mapped)
        _write(fusion, (*tensors, pattern), files["fusion"], [*names, "pattern"], outputs)
    return files


def _write(
    module: nn.Module, inputs: tuple[Tensor, ...], path: Path, input_names: list[str], outputs: Sequence[str]
) -> None:
    # Their package is the exporter's, which those who run a network in torch need not have.
    from onnxscript.ir.passes.common import ClearMetadataAndDocStringPass

    from robust_perception.model.graph_slices import without_slices_of_parts

    with _errors_only(OPERATORS_LOG), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own deprecations
        program = torch.onnx.export(
            module.eval(),
            inputs,
            input_names=input_names,
            output_names=list(outputs),
            opset_version=OPSET,
            dynamo=True,
            optimize=True,
            verbose=False,
        )
    assert program is not None
    without_slices_of_parts(program.model.graph)
    # Where each node comes from, with the paths of this machine's files: a twentieth of the file, for nobody.
    ClearMetadataAndDocStringPass()(program.model)
    program.save(str(path), external_data=False)


@contextlib.contextmanager
def _errors_only(name: str) -> Iterator[None]:
    log = logging.getLogger(name)
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)
