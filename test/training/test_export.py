"""From trained weights to a model folder that the engine loads, by the commands people use."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import small_data
import yaml

from robust_perception import export, train
from robust_perception.engine.engine import Engine
from robust_perception.engine.manifest import Manifest, encoder_name
from robust_perception.engine.onnxruntime import OnnxRuntimeBackend
from robust_perception.engine.pipeline import Pipeline
from robust_perception.engine.selfcheck import check_all
from robust_perception.evaluate import main as evaluate
from robust_perception.model.graphs import OUTPUTS
from robust_perception.training import loop
from robust_perception.training.checkpoint import load_weights
from robust_perception.training.errors import ExportError
from robust_perception.vocabulary import ALL_PATTERNS, Modality


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_data.write(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    (folder / "small.yaml").write_text(small_data.config().to_text())
    words = ["--config", str(folder / "small.yaml"), "--data", str(data), "--out", str(folder / "out")]
    assert train.main([*words, "--seed", "2", "--threads", "1"]) == 0
    return folder / "out"


def test_the_engine_loads_it_and_every_pattern_checks(run: Path) -> None:
    engine = Engine.load(str(run / "model"), "onnxruntime")
    assert {result.pattern for result in check_all(engine)} == set(ALL_PATTERNS)


def test_the_manifest_remembers_the_training(run: Path) -> None:
    manifest = Manifest.load(run / "model")
    assert manifest.name == "small"
    assert manifest.class_names == ("background", "warm", "cold")
    assert manifest.scene_names == ("tone", "noise")
    assert "--seed 2" in manifest.training["command"]
    assert manifest.training["seed"] == 2
    config = yaml.safe_load((run / "model" / "config.yaml").read_text())
    assert config["network"]["width"] == 16
    card = (run / "model" / "README.md").read_text()
    assert manifest.training["command"] in card
    for pattern in ALL_PATTERNS:
        assert f"| {pattern} |" in card


def test_absent_latents_may_hold_anything(run: Path) -> None:
    manifest = Manifest.load(run / "model")
    pipeline = Pipeline(manifest, OnnxRuntimeBackend(run / "model", manifest, 1))
    generator = np.random.default_rng(0)
    latents, garbage = {}, {}
    for modality in Modality:
        tensors = manifest.graphs[encoder_name(modality)].outputs
        latents[modality] = {t.name: generator.normal(size=t.shape).astype(np.float32) for t in tensors}
        garbage[modality] = {t.name: np.full(t.shape, np.nan, np.float32) for t in tensors}
    for pattern in ALL_PATTERNS:
        present = {m: latents[m] for m in pattern}
        clean, dirty = pipeline.fuse(present, pattern), pipeline.fuse({**garbage, **present}, pattern)
        for name in OUTPUTS:
            assert getattr(clean, name).tobytes() == getattr(dirty, name).tobytes(), (pattern, name)


def test_it_can_be_evaluated(run: Path, data: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    words = ["--model", str(run / "model"), "--data", str(data), "--split", "val", "--json", str(report)]
    assert evaluate(words) == 0
    assert len(json.loads(report.read_text())["patterns"]) == 15


def test_graphs_of_other_weights_are_refused(run: Path, data: Path, tmp_path: Path) -> None:
    network, _ = load_weights(run / loop.BEST)
    manifest = Manifest.load(run / "model")
    inputs = export.reference_inputs(export.FolderDataset(data, "val"), manifest)
    network.fusion.segmentation.classify.bias.data[1] += 5.0
    with pytest.raises(ExportError, match="label_map"):
        export.compare(network, manifest, run / "model", inputs)


def test_a_run_s_state_is_no_model(run: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--weights", str(run / loop.LAST), "--data", str(data), "--out", str(run / "other")]
    assert export.main(words) == 1
    assert "best.safetensors" in capsys.readouterr().err


def test_a_misspelt_key_is_named(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "typo.yaml"
    path.write_text("optimiser: {epoch: 3}\n")
    words = ["--config", str(path), "--data", str(data), "--out", str(tmp_path / "out")]
    assert train.main(words) == 1
    message = capsys.readouterr().err
    assert "optimiser.epoch" in message
    assert "epochs" in message
