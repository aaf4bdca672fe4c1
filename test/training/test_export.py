"""From trained weights to a model folder that the engine loads, by the commands people use."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import small_data
import yaml

from robust_perception import export, train
from robust_perception.benchmarking.errors import BenchmarkError
from robust_perception.benchmarking.torch_network import TorchBackend
from robust_perception.engine import choice, fusion_in_parts, selfcheck
from robust_perception.engine.engine import Engine
from robust_perception.engine.errors import EngineError
from robust_perception.engine.fusion_in_parts import PipelineInParts, pipeline_of
from robust_perception.engine.manifest import Manifest, encoder_name
from robust_perception.engine.onnxruntime import OnnxRuntimeBackend
from robust_perception.engine.pipeline import Latents, Pipeline, RawOutputs
from robust_perception.engine.precision import FP16, FP32, INT8
from robust_perception.evaluate import main as evaluate
from robust_perception.evaluation.thresholds import FALLBACK
from robust_perception.exporting import references
from robust_perception.exporting.card import model_card
from robust_perception.model.graphs import OUTPUTS
from robust_perception.model.network import Network
from robust_perception.training import loop
from robust_perception.training.checkpoint import load_weights
from robust_perception.training.errors import ExportError
from robust_perception.training.validation import spread
from robust_perception.vocabulary import ALL_PATTERNS, Modality, Pattern


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
    assert {result.pattern for result in engine.check() if result.passed} == set(ALL_PATTERNS)


@pytest.mark.slow
@pytest.mark.parametrize("name", choice.BACKENDS)
def test_every_backend_gives_the_references_in_every_precision(run: Path, name: str) -> None:
    reason = choice.probe(name)
    if reason is not None:
        pytest.skip(reason)
    for precision in choice.BACKENDS[name].precisions:
        engine = Engine.load(str(run / "model"), name, threads=2, precision=precision)
        assert (engine.info.backend, engine.info.rejected) == (name, ())
        assert {result.pattern for result in engine.check() if result.passed} == set(ALL_PATTERNS)


def test_bench_compares_with_the_network_that_was_exported(run: Path, tmp_path: Path) -> None:
    manifest = Manifest.load(run / "model")
    for weights in (run / loop.BEST, run / "model"):  # the model brings them itself
        backend = TorchBackend(weights, manifest, compiled=False)
        results = Engine.of(backend, manifest, run / "model").check()
        assert {result.pattern for result in results if result.passed} == set(ALL_PATTERNS)
    other = replace(manifest, class_names=("background", "hot", "cold"))
    with pytest.raises(BenchmarkError, match="expected the network of model small"):
        TorchBackend(run / loop.BEST, other, compiled=False)
    encoder = manifest.graphs["encoder_rgb"]
    older = replace(encoder, outputs=tuple(t for t in encoder.outputs if not t.name.endswith("gate")))
    other = replace(manifest, graphs={**manifest.graphs, "encoder_rgb": older}, variants={}, parts={})
    with pytest.raises(BenchmarkError, match=r"encoder of rgb .* export it again"):
        TorchBackend(run / loop.BEST, other, compiled=False)


def test_graphs_for_gpus_make_the_label_map_and_the_others_leave_it_to_the_engine(run: Path) -> None:
    manifest = Manifest.load(run / "model")
    first = {p: manifest.graphs_of(p)["fusion"].outputs[0].name for p in manifest.precisions}
    gpu = {"fp16": "label_map", "int8-symmetric": "label_map"}
    assert first == {"fp32": "class_scores", "int8": "class_scores", **gpu}


@pytest.mark.parametrize("precision", [FP32, INT8])
def test_the_fusion_is_cut_for_cpus_and_says_the_same(run: Path, precision: str) -> None:
    manifest = Manifest.load(run / "model")
    assert set(manifest.parts) == {FP32, INT8}
    whole = Pipeline(manifest, OnnxRuntimeBackend(run / "model", manifest, precision, threads=2))
    parts = pipeline_of(whole.backend, manifest, run / "model", threads=2)
    assert isinstance(parts, PipelineInParts)
    stored = selfcheck.read_references(run / "model", whole)
    assert stored is not None
    for pattern in ALL_PATTERNS:
        inputs = {m: selfcheck.read_input(stored, m, whole) for m in pattern}
        expected, got = whole.run(inputs, pattern), parts.run(inputs, pattern)
        for name in OUTPUTS:
            assert getattr(expected, name).tobytes() == getattr(got, name).tobytes(), (pattern, name)


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


def test_the_card_says_what_the_run_builds_on(run: Path) -> None:
    manifest, (network, _) = Manifest.load(run / "model"), load_weights(run / loop.BEST)
    assert "The run began with" not in model_card(manifest, network)
    begun = replace(manifest, training={**manifest.training, "start": "best.safetensors of other, epoch 4"})
    assert "The run began with best.safetensors of other, epoch 4." in model_card(begun, network)
    taught = replace(manifest, training={**manifest.training, "teacher": "best.safetensors of base, epoch 2"})
    assert "Its teacher was best.safetensors of base, epoch 2." in model_card(taught, network)


def test_absent_latents_may_hold_anything(run: Path) -> None:
    manifest = Manifest.load(run / "model")
    pipeline = Pipeline(manifest, OnnxRuntimeBackend(run / "model", manifest, threads=1))
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
    inputs = references.reference_inputs(export.MixedDataset.open((data,), "val"), manifest)
    network.fusion.segmentation.classify.bias.data[1] += 5.0
    with pytest.raises(ExportError, match="label_map"):
        references.compare(network, manifest, run / "model", inputs, {})


def test_a_number_that_is_none_is_refused(run: Path, data: Path) -> None:
    network, _ = load_weights(run / loop.BEST)
    manifest = Manifest.load(run / "model")
    inputs = references.reference_inputs(export.MixedDataset.open((data,), "val"), manifest)
    temperatures = {bits: one.temperature for bits, one in manifest.calibration.items()}
    assert network.fusion.scene is not None
    network.fusion.scene.layers[2].bias.data[0] = math.nan
    with pytest.raises(ExportError, match=r"output scene: .* got nan"):
        references.compare(network, manifest, run / "model", inputs, temperatures)


def test_a_run_s_state_is_no_model(run: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--weights", str(run / loop.LAST), "--data", str(data), "--out", str(run / "other")]
    assert export.main(words) == 1
    assert "best.safetensors" in capsys.readouterr().err


def test_data_with_other_classes_is_refused(run: Path, data: Path, tmp_path: Path) -> None:
    other = tmp_path / "data"
    shutil.copytree(data, other)
    content = json.loads((other / "classes.json").read_text())
    content["fine"][2]["name"] = "hot"
    (other / "classes.json").write_text(json.dumps(content))
    with pytest.raises(ExportError, match=r"'cold'.*, got .*'hot'"):
        export.export(run / loop.BEST, (other,), tmp_path / "model", "a command")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("there", [False, True])
def test_a_failed_export_leaves_what_was_there(
    run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    out = tmp_path / "model"
    if there:
        shutil.copytree(run / "model", out)
    before = {path.name: path.read_bytes() for path in out.glob("*")}

    def write(_network: Network, _size: object, folder: Path, *_: object, **__: object) -> dict[str, Path]:
        graphs = Manifest.load(run / "model").graphs
        return {n: Path(shutil.copy(run / "model" / g.file, folder)) for n, g in graphs.items()}

    monkeypatch.setattr(export, "write_graphs", write)
    monkeypatch.setattr(references, "TOLERANCE", -1.0)
    with pytest.raises(ExportError, match="expected what torch says"):
        export.export(run / loop.BEST, (data,), out, "a command")
    assert {path.name: path.read_bytes() for path in out.glob("*")} == before


def test_a_precision_that_an_engine_would_refuse_is_left_out_and_that_of_the_model_before_goes(
    run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run / "model", tmp_path / "model")
    (tmp_path / "model" / "notes.txt").write_text("whoever wrote this wants to keep it")
    assert list((tmp_path / "model").glob("*.fp16.onnx"))
    monkeypatch.setitem(selfcheck.TOLERANCES, FP16, selfcheck.Tolerance(0.0, 1.0))
    words = ["--weights", str(run / loop.BEST), "--data", str(data), "--out", str(tmp_path / "model")]
    assert export.main([*words, "--precision", FP16, "--precision", INT8]) == 0
    assert "fp16 is left out, an engine would refuse it: " in capsys.readouterr().err
    assert Manifest.load(tmp_path / "model").precisions == (FP32, INT8)
    described = {spec.file for spec in Manifest.load(tmp_path / "model").files()}
    beside = {"manifest.json", "config.yaml", "README.md", "training.safetensors", "notes.txt"}
    assert {path.name for path in (tmp_path / "model").iterdir()} == described | beside


@pytest.mark.slow
def test_a_sensor_that_few_frames_have_is_quantised_and_patterns_without_a_box_are_named(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = small_data.write(tmp_path / "data", train=1, val=18)
    assert 8 not in spread(18, export.CALIBRATION_FRAMES)
    for kind in ("thermal", "audio"):
        for path in (data / "val" / kind).iterdir():
            if path.stem != "008":
                path.unlink()
    label = data / "val" / "label" / "008.png"
    cv2.imwrite(str(label), np.zeros(small_data.SIZE, np.uint8))
    words = ["--weights", str(run / loop.BEST), "--data", str(data), "--out", str(tmp_path / "model")]
    assert export.main([*words, "--precision", INT8]) == 0
    assert "with a box shows rgb+depth+thermal+audio, rgb+depth+thermal, " in capsys.readouterr().err
    thresholds = Manifest.load(tmp_path / "model").score_threshold
    unseen = [pattern for pattern in ALL_PATTERNS if {Modality.THERMAL, Modality.AUDIO} & set(pattern)]
    assert {thresholds[pattern.bits] for pattern in unseen} == {FALLBACK}


def test_a_cut_fusion_that_an_engine_would_refuse_is_left_out(
    run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Wrong(PipelineInParts):
        def fuse(self, latents: Mapping[Modality, Latents], pattern: Pattern) -> RawOutputs:
            outputs = super().fuse(latents, pattern)
            return replace(outputs, boxes=outputs.boxes + 100.0)

    monkeypatch.setattr(fusion_in_parts, "PipelineInParts", Wrong)
    words = ["--weights", str(run / loop.BEST), "--data", str(data), "--out", str(tmp_path / "model")]
    assert export.main([*words, "--precision", FP32]) == 0
    assert "the cut fusion in fp32 is left out, an engine would refuse it: " in capsys.readouterr().err
    assert Manifest.load(tmp_path / "model").parts == {}
    assert not list((tmp_path / "model").glob("fusion_*"))


def test_a_finished_run_that_is_resumed_is_exported_and_errors_are_said_in_words(
    run: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(weights: Path, *_: object, **__: object) -> str:
        assert weights == run / loop.BEST
        raise EngineError("no backend today")

    monkeypatch.setattr(export, "export", fails)
    words = [
        "--config",
        str(run.parent / "small.yaml"),
        "--data",
        str(data),
        "--out",
        str(run),
        "--seed",
        "2",
    ]
    assert train.main([*words, "--resume"]) == 1
    assert "no backend today" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--threads", "0"], ["--seed", "-1"]], ids=" ".join)
def test_numbers_that_make_no_sense_are_wrong_usage(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        train.main(["--config", "c", "--data", "d", "--out", "o", *words])
    assert stopped.value.code == 2
    assert words[0] in capsys.readouterr().err


def test_a_misspelt_key_is_named(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "typo.yaml"
    path.write_text("optimiser: {epoch: 3}\n")
    words = ["--config", str(path), "--data", str(data), "--out", str(tmp_path / "out")]
    assert train.main(words) == 1
    message = capsys.readouterr().err
    assert "optimiser.epoch" in message
    assert "epochs" in message
