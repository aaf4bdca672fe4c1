"""The network as graphs that need no torch: one ONNX file an encoder, one for everything after them.

Shapes are static and the batch is one. Graph inputs are raw measurements; outputs are what a robot wants:
label map, boxes, probabilities. Per graph:

    encoder_<m>   <m> -> <m>_p2 .. <m>_p5, or audio -> audio_vector
    fusion        latents of all sensors, pattern int64 (1,) -> label_map uint8 (1, H, W),
                  confidence (1,) = mean over pixels of the largest class probability,
                  box_scores (1, N, K) = sqrt(sigmoid(class) sigmoid(centre-ness)), boxes (1, N, 4) xyxy,
                  scene (1, S) = sigmoid, left out without scene classes
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from robust_perception.model.encoders import LEVELS
from robust_perception.model.network import FusionNetwork, Latents, Network
from robust_perception.vocabulary import Modality

OPSET = 18

OUTPUTS = ("label_map", "confidence", "box_scores", "boxes", "scene")


def latent_names(modality: Modality) -> tuple[str, ...]:
    """Names of an encoder's outputs."""
    if modality.is_image:
        return tuple(f"{modality.value}_{level}" for level in LEVELS)
    return (f"{modality.value}_vector",)


class FusionGraph(nn.Module):
    """`FusionNetwork` with flat inputs and finished outputs.

    Args:
        fusion: the trained half.
        size: (H, W).
    """

    def __init__(self, fusion: FusionNetwork, size: tuple[int, int]) -> None:
        super().__init__()
        self.fusion = fusion
        self.size = size

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Latents in the order of the modalities, then the pattern -> `OUTPUTS`."""
        *flat, pattern = inputs
        latents: Latents = {}
        for modality in self.fusion.config.modalities:
            count = len(latent_names(modality))
            latents[modality], flat = tuple(flat[:count]), flat[count:]
        out = self.fusion(latents, pattern, self.size)
        # The largest softmax is 1 / sum exp(l - l_max): no need to make the others.
        highest, label_map = out.segmentation.max(dim=1)
        probability = 1.0 / torch.exp(out.segmentation - highest[:, None]).sum(dim=1)
        found = out.detections
        scores = torch.sqrt(torch.sigmoid(found.class_logits) * torch.sigmoid(found.centre_logits)[..., None])
        results = [label_map.to(torch.uint8), probability.mean(dim=(1, 2)), scores, found.boxes]
        return tuple(results + ([torch.sigmoid(out.scene)] if out.scene is not None else []))


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


@torch.no_grad()
def write_graphs(network: Network, size: tuple[int, int], folder: Path) -> dict[str, Path]:
    """Write all graphs of a network; return their files by name.

    Args:
        network: in evaluation mode.
        size: (H, W) of the images.
        folder: exists.
    """
    network.eval()
    inputs = example_inputs(network, size)
    files: dict[str, Path] = {}
    for modality, example in inputs.items():
        name = f"encoder_{modality.value}"
        files[name] = folder / f"{name}.onnx"
        encoder = network.encoders[modality.value]
        _write(encoder, (example,), files[name], [modality.value], latent_names(modality))
    latents = network.encode(inputs)
    names = [name for m in network.config.modalities for name in latent_names(m)]
    flat = [latent for m in network.config.modalities for latent in latents[m]]
    outputs = OUTPUTS if network.config.scene_names else OUTPUTS[:-1]
    files["fusion"] = folder / "fusion.onnx"
    pattern = torch.tensor([1], dtype=torch.int64)
    _write(FusionGraph(network.fusion, size), (*flat, pattern), files["fusion"], [*names, "pattern"], outputs)
    return files


def _write(
    module: nn.Module, inputs: tuple[Tensor, ...], path: Path, input_names: list[str], outputs: Sequence[str]
) -> None:
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    before = registration.level
    registration.setLevel(
        logging.ERROR
    )  # it warns of every operator of torchvision, which nothing here needs
    with warnings.catch_warnings():
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
    registration.setLevel(before)
    assert program is not None
    program.save(str(path), external_data=False)
