"""A frame through the network in torch: as it is, compiled, and as one CUDA graph.

Each row takes raw inputs on the host and gives finished outputs on the host, as the engine's backends do, so
that copies are in every row alike. TF32 is off: what is called fp32 is computed in it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.noise import noise_inputs
from robust_perception.model.adapter_bank import adapters_of
from robust_perception.model.adapter_merging import merge_in_graph
from robust_perception.model.graphs import OUTPUTS, EncoderGraph, FusionGraph, follows_pattern
from robust_perception.model.network import Network
from robust_perception.vocabulary import Array, Modality, Pattern

Frame = Callable[[Mapping[Modality, Array], Pattern], dict[str, Array]]
"""Inputs by sensor without batch axis, and the pattern -> outputs by name with batch axis, on the host."""


class Eager:
    """The network as it is; encoders of absent sensors do not run.

    Args:
        network: any.
        size: (H, W) of the images.
        device: torch's name of it.
        temperatures: of the patterns, as the exported fusion has them.
        change: made of every part: nothing, or torch.compile.
    """

    def __init__(
        self,
        network: Network,
        size: tuple[int, int],
        device: str,
        temperatures: Mapping[int, float],
        change: Callable[[nn.Module], Any] = lambda module: module,
    ) -> None:
        self.modalities = network.config.modalities
        self._follows = {m: follows_pattern(network, m) for m in self.modalities}
        network = merge_in_graph(network) if adapters_of(network) else copy.deepcopy(network)
        network.fusion.propose_ahead()  # in the encoders, as the exported graphs do
        network = network.to(device).eval()
        self.device = device
        self.names = OUTPUTS if network.config.scene_names else OUTPUTS[:-1]
        self.encoders = {m: change(EncoderGraph(network, m)) for m in self.modalities}
        self.fusion = change(FusionGraph(network.fusion, size, temperatures).to(device))
        full, inputs = Pattern.of(self.modalities), noise_inputs(self.modalities, size, 0)
        with torch.inference_mode():
            latents = {m: self.encode(m, inputs[m], self.bits(full)) for m in self.modalities}
            self._blank = {m: tuple(torch.zeros_like(x) for x in values) for m, values in latents.items()}

    def bits(self, pattern: Pattern) -> Tensor:
        """The pattern as the graphs take it."""
        return torch.tensor([pattern.bits], device=self.device)

    def encode(self, modality: Modality, array: Array, bits: Tensor) -> tuple[Tensor, ...]:
        """One sensor's latents."""
        raw = torch.from_numpy(array)[None].to(self.device)
        given = (raw, bits) if self._follows[modality] else (raw,)
        made: tuple[Tensor, ...] = self.encoders[modality](*given)
        return made

    @torch.inference_mode()
    def __call__(self, inputs: Mapping[Modality, Array], pattern: Pattern) -> dict[str, Array]:
        """One frame."""
        bits = self.bits(pattern)
        flat: list[Tensor] = []
        for m in self.modalities:
            flat += self.encode(m, inputs[m], bits) if m in pattern else self._blank[m]
        return self.finish(self.fusion(*flat, bits))

    def finish(self, outputs: tuple[Tensor, ...]) -> dict[str, Array]:
        """On the host, by name."""
        return {name: value.cpu().numpy() for name, value in zip(self.names, outputs, strict=True)}


class OneCudaGraph:
    """All encoders and the fusion captured once; the pattern is a tensor, so that it serves every pattern.

    Args:
        eager: whose parts are captured, after torch.export has taken Python out of them.
        size: (H, W) of the images.
    """

    def __init__(self, eager: Eager, size: tuple[int, int]) -> None:
        self._eager = eager
        full, device = Pattern.of(eager.modalities), eager.device
        inputs = noise_inputs(eager.modalities, size, 0)
        self._raw = {m: torch.from_numpy(inputs[m])[None].to(device) for m in eager.modalities}
        self._bits = eager.bits(full)
        with torch.no_grad():
            encoders, flat = {}, []
            for m, raw in self._raw.items():
                given = (raw, self._bits) if eager._follows[m] else (raw,)
                encoders[m] = (torch.export.export(eager.encoders[m], given).module(), given)
                flat += [value.clone() for value in encoders[m][0](*given)]
            fusion = torch.export.export(eager.fusion, (*flat, self._bits)).module()

            def frame() -> tuple[Tensor, ...]:
                latents = [value for module, given in encoders.values() for value in module(*given)]
                made: tuple[Tensor, ...] = fusion(*latents, self._bits)
                return made

            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(3):
                    frame()
            torch.cuda.current_stream().wait_stream(side)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._outputs = frame()

    @torch.no_grad()
    def __call__(self, inputs: Mapping[Modality, Array], pattern: Pattern) -> dict[str, Array]:
        """One frame."""
        for m in pattern:
            self._raw[m].copy_(torch.from_numpy(inputs[m])[None])
        self._bits.copy_(torch.tensor([pattern.bits]))
        self._graph.replay()
        return self._eager.finish(self._outputs)


def rows(
    network: Network, size: tuple[int, int], device: str, temperatures: Mapping[int, float]
) -> dict[str, Callable[[], Frame]]:
    """What makes each row, by name; making one may fail where the others do not."""

    def eager() -> Frame:
        return Eager(network, size, device, temperatures)

    def compiled() -> Frame:
        return Eager(network, size, device, temperatures, torch.compile)

    def one_cuda_graph() -> Frame:
        if not device.startswith("cuda"):
            msg = f"a CUDA graph needs a GPU, not {device}"
            raise RuntimeError(msg)
        return OneCudaGraph(Eager(network, size, device, temperatures), size)

    return {"torch-eager": eager, "torch-compile": compiled, "torch-cuda-graph": one_cuda_graph}


def exact_float32() -> None:
    """No TF32 in products and convolutions."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
