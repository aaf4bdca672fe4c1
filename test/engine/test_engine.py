"""The engine on a tiny model: what runs, what is reused, what comes out, what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moments import moment, under
from tiny_model import make_model

from robust_perception.engine import choice
from robust_perception.engine.engine import Engine, warm_up
from robust_perception.engine.errors import (
    BackendError,
    EngineError,
    FrameError,
    ModelFileError,
    SelfCheckError,
)
from robust_perception.engine.manifest import Manifest
from robust_perception.engine.model_files import FileSpec
from robust_perception.engine.onnxruntime import OnnxRuntimeBackend
from robust_perception.engine.pipeline import Pipeline
from robust_perception.vocabulary import ALL_PATTERNS, FrameSet, Modality, Pattern, Reason, SensorFrame

SIZE = (64, 96)
ALL = tuple(Modality)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def engine(folder: Path) -> Engine:
    return Engine.load(folder, threads=1)


@pytest.fixture
def ran(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the graphs as they run."""
    names: list[str] = []
    backend = engine._pipeline.backend
    original = backend.run

    def run(graph: str, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        names.append(graph)
        return original(graph, feeds)

    monkeypatch.setattr(backend, "run", run)
    return names


def encoded_before_fusion(ran: list[str]) -> list[str]:
    """Encoders that ran, by name: several run at once; the fusion is the last of all."""
    assert ran[-1] == "fusion"
    return sorted(ran[:-1])


def frame(modality: Modality, seed: int = 0, size: tuple[int, int] = SIZE) -> SensorFrame:
    generator = np.random.default_rng(seed)
    stamp = 1_000_000_000 + seed
    if modality is Modality.RGB:
        return SensorFrame(modality, generator.integers(0, 256, (*size, 3), dtype=np.uint8), stamp, "camera")
    if modality is Modality.AUDIO:
        return SensorFrame(modality, generator.uniform(-1, 1, 16000).astype(np.float32), stamp)
    scale = 10 if modality is Modality.DEPTH else 400
    return SensorFrame(modality, generator.uniform(0, scale, size).astype(np.float32), stamp)


def frame_set(pattern: Pattern, seed: int = 0, size: tuple[int, int] = SIZE) -> FrameSet:
    frames = {m: frame(m, seed, size) for m in pattern}
    return FrameSet(pattern, frames, next(iter(pattern)))


def test_info_names_what_runs_and_what_was_passed_over(engine: Engine, folder: Path) -> None:
    assert (engine.info.backend, engine.info.device, engine.info.model) == ("onnxruntime", "cpu", "tiny")
    assert engine.info.sha == FileSpec.of(folder / "manifest.json").sha256
    assert "onnxruntime int8: model tiny has no int8 graphs" in engine.info.rejected


@pytest.mark.parametrize("pattern", ALL_PATTERNS, ids=str)
def test_only_encoders_of_present_sensors_run(engine: Engine, ran: list[str], pattern: Pattern) -> None:
    perception = engine.infer(frame_set(pattern))
    assert encoded_before_fusion(ran) == sorted(f"encoder_{m}" for m in pattern)
    assert perception.frame_set.pattern == pattern
    assert perception.label_map.shape == SIZE
    assert perception.label_map.dtype == np.uint8
    assert 0 < perception.confidence <= 1
    assert {f"encode/{m}" for m in pattern} | {"fuse", "decode", "total"} == set(perception.timings_ms)


def test_a_sensors_latents_are_reused_until_its_next_frame(engine: Engine, ran: list[str]) -> None:
    first = frame_set(Pattern.parse("rgb+thermal"))
    engine.infer(first)
    ran.clear()
    newer = FrameSet(
        first.pattern,
        {Modality.RGB: frame(Modality.RGB, 1), Modality.THERMAL: first.frames[Modality.THERMAL]},
        Modality.RGB,
    )
    perception = engine.infer(newer)
    assert ran == ["encoder_rgb", "fusion"]
    assert "encode/thermal" not in perception.timings_ms
    ran.clear()
    engine.reset()
    engine.infer(newer)
    assert encoded_before_fusion(ran) == ["encoder_rgb", "encoder_thermal"]


def test_an_interrupted_inference_is_made_anew(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    frame_set = under(moment(7), ALL_PATTERNS[0])

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as once:
        once.setattr(type(engine.backend), "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            engine.infer(frame_set)
    assert engine.infer(frame_set).frame_set == frame_set


def test_another_frame_with_the_same_stamp_is_new(engine: Engine) -> None:
    pattern = Pattern.of([Modality.DEPTH])
    old, new = frame(Modality.DEPTH, 0), frame(Modality.DEPTH, 5)
    looped = SensorFrame(Modality.DEPTH, new.data, old.stamp_ns)
    engine.infer(FrameSet(pattern, {Modality.DEPTH: old}, Modality.DEPTH))
    after = engine.infer(FrameSet(pattern, {Modality.DEPTH: looped}, Modality.DEPTH))
    engine.reset()
    fresh = engine.infer(FrameSet(pattern, {Modality.DEPTH: new}, Modality.DEPTH))
    np.testing.assert_array_equal(after.label_map, fresh.label_map)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequence=st.lists(st.tuples(st.integers(1, 15), st.integers(0, 3)), min_size=2, max_size=6))
def test_switching_patterns_changes_nothing_later(
    folder: Path, engine: Engine, sequence: list[tuple[int, int]]
) -> None:
    for bits, seed in sequence:
        last = engine.infer(frame_set(Pattern(bits), seed))
    fresh = Engine.load(folder, threads=1).infer(frame_set(Pattern(bits), seed))
    np.testing.assert_array_equal(last.label_map, fresh.label_map)
    np.testing.assert_array_equal(last.boxes, fresh.boxes)
    np.testing.assert_array_equal(last.scores, fresh.scores)
    np.testing.assert_array_equal(last.scene, fresh.scene)
    assert last.confidence == fresh.confidence


def test_outputs_come_at_the_reference_frames_size(engine: Engine) -> None:
    engine.score_threshold = 0.0
    small = engine.infer(frame_set(Pattern.parse("rgb+depth")))
    wide = engine.infer(frame_set(Pattern.parse("rgb+depth"), size=(128, 288)))
    assert wide.label_map.shape == (128, 288)
    assert small.boxes[:, 2].max() == 96
    assert wide.boxes[:, 2].max() == 288
    assert wide.boxes[:, 3].max() == 128


def test_sound_alone_comes_at_the_models_size(engine: Engine) -> None:
    perception = engine.infer(frame_set(Pattern.of([Modality.AUDIO])))
    assert perception.label_map.shape == SIZE
    assert perception.scene.shape == (2,)


def test_boxes_are_those_worked_out_by_hand(engine: Engine) -> None:
    grey = np.zeros((*SIZE, 3), np.uint8)
    grey[:32, :32] = 204  # evidence 0.8 in the first cell: 0.8 for class 1, half of it for class 2
    perception = engine.infer(
        FrameSet(Pattern.parse("rgb"), {Modality.RGB: SensorFrame(Modality.RGB, grey, 1)}, Modality.RGB)
    )
    np.testing.assert_allclose(perception.scores, [0.8, 0.4], rtol=1e-5)
    np.testing.assert_array_equal(perception.boxes, [[0, 0, 32, 32], [0, 0, 32, 32]])
    assert perception.class_ids.tolist() == [1, 2]
    assert (perception.label_map[:32, :32] == 2).all()
    assert (perception.label_map[32:] == 0).all()
    engine.score_threshold = 0.5
    assert engine.infer(perception.frame_set).class_ids.tolist() == [1]


@pytest.mark.parametrize("garbage", [np.nan, np.inf, 1e30])
def test_absent_latents_may_hold_anything(folder: Path, garbage: float) -> None:
    manifest = Manifest.load(folder)
    pipeline = Pipeline(manifest, OnnxRuntimeBackend(folder, manifest, threads=1))
    pattern = Pattern.parse("depth")
    latents = {Modality.DEPTH: pipeline.encode(Modality.DEPTH, frame(Modality.DEPTH).data, pattern)}
    clean = pipeline.fuse(latents, pattern)
    for m in (Modality.RGB, Modality.THERMAL, Modality.AUDIO):
        outputs = manifest.graphs[f"encoder_{m}"].outputs
        latents[m] = {t.name: np.full(t.shape, garbage, np.float32) for t in outputs}
    dirty = pipeline.fuse(latents, pattern)
    for name in ("label_map", "confidence", "box_scores", "boxes", "scene"):
        assert getattr(clean, name).tobytes() == getattr(dirty, name).tobytes()


def test_modalities_the_model_lacks_are_left_out(tmp_path: Path) -> None:
    engine = Engine.load(make_model(tmp_path / "two", (Modality.DEPTH, Modality.THERMAL)), threads=1)
    used = engine.infer(frame_set(Pattern(15))).frame_set
    assert used.pattern == Pattern.parse("depth+thermal")
    assert used.reference is Modality.DEPTH
    assert used.absent == {Modality.RGB: Reason.DISABLED, Modality.AUDIO: Reason.DISABLED}
    with pytest.raises(EngineError, match=r"expected a frame of depth, thermal, got only rgb\+audio"):
        engine.infer(frame_set(Pattern.parse("rgb+audio")))


def test_nothing_is_made_ahead_for_a_pattern_of_sensors_the_model_lacks(tmp_path: Path) -> None:
    engine = Engine.load(make_model(tmp_path / "two", (Modality.DEPTH, Modality.THERMAL)), "onnxruntime")
    frames = [frame(Modality.DEPTH), frame(Modality.RGB)]
    assert not engine.encode(frames, Pattern.parse("rgb+audio"))
    assert engine.encode(frames, Pattern.parse("rgb+depth"))


def test_a_frame_that_cannot_be_used_names_its_sensor(engine: Engine) -> None:
    bad = SensorFrame(Modality.DEPTH, np.zeros(SIZE, np.float64), 1)
    frames = {Modality.RGB: frame(Modality.RGB), Modality.DEPTH: bad}
    with pytest.raises(FrameError, match="depth frame: expected float32") as error:
        engine.infer(FrameSet(Pattern.of(frames), frames, Modality.RGB))
    assert error.value.modality is Modality.DEPTH


def test_every_pattern_gives_its_reference(engine: Engine) -> None:
    results = engine.check()
    assert {r.pattern for r in results} == set(ALL_PATTERNS)
    assert all(r.passed for r in results)


def test_a_model_without_references_is_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Engine.load(make_model(tmp_path / "tiny", references=False))
    assert engine.check() == ()
    (warning,) = [record.getMessage() for record in caplog.records]
    assert warning.startswith("model tiny was not checked: expected references")
    assert "robust-perception export" in warning


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("output/15/box_scores", "in box_scores"),
        ("output/15/label_map", "of the pixels agree"),
        ("output/8/scene", ""),
    ],
)
def test_a_model_that_gives_something_else_is_refused(tmp_path: Path, key: str, message: str) -> None:
    folder = make_model(tmp_path / "tiny")
    with np.load(folder / "references.npz", allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays[key] = arrays[key] + np.ones((), arrays[key].dtype)
    rewrite_references(folder, arrays)
    with pytest.raises(SelfCheckError, match=rf"model tiny: expected its reference outputs, got .*{message}"):
        Engine.load(folder, "onnxruntime")
    with pytest.raises(
        BackendError, match=r"no backend runs this model: .*onnxruntime fp32: model tiny: expected its"
    ):
        Engine.load(folder, "auto")


def test_references_that_lack_an_output_are_named(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "tiny")
    with np.load(folder / "references.npz", allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files if name != "output/15/boxes"}
    rewrite_references(folder, arrays)
    with pytest.raises(SelfCheckError, match="references: expected 'output/15/boxes'"):
        Engine.load(folder, "onnxruntime")


def test_references_with_python_objects_are_not_unpickled(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "tiny")
    rewrite_references(folder, {"input/rgb": np.array([{"a": 1}], dtype=object)})
    with pytest.raises(ModelFileError, match=r"references\.npz: expected an npz archive of plain arrays"):
        Engine.load(folder)


def test_references_that_are_no_archive_are_refused(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "tiny")
    np.save(folder / "references.npy", np.zeros(3))
    (folder / "references.npy").replace(folder / "references.npz")
    describe_references(folder)
    with pytest.raises(ModelFileError, match=r"references\.npz: expected an npz .* got .*not a zip"):
        Engine.load(folder)


def rewrite_references(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    """Replace the references and make the manifest agree, as a faulty exporter would."""
    np.savez(folder / "references.npz", **arrays)
    describe_references(folder)


def describe_references(folder: Path) -> None:
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    file = FileSpec.of(folder / "references.npz")
    content["references"] = {"file": file.file, "sha256": file.sha256, "bytes": file.bytes}
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("backend", ["auto", "onnxruntime"])
def test_a_named_precision_never_falls_back(folder: Path, backend: str) -> None:
    with pytest.raises(BackendError, match="onnxruntime int8: model tiny has no int8 graphs"):
        Engine.load(folder, backend, precision="int8")
    with pytest.raises(BackendError, match="onnxruntime: runs int8, fp32, not fp16"):
        Engine.load(folder, backend, precision="fp16")
    with pytest.raises(BackendError, match=r"precision: expected one of auto, fp32, .* got 'fp8'"):
        Engine.load(folder, backend, precision="fp8")


def test_an_unknown_backend_is_refused_with_the_known_ones(folder: Path) -> None:
    with pytest.raises(BackendError, match=r"expected one of auto, .*onnxruntime.* got 'ncnn'"):
        Engine.load(folder, "ncnn")


def test_a_backend_that_is_not_installed_says_how_to_get_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendError, match=r"onnxruntime: .* `pip install onnxruntime`"):
        Engine.load(folder, "onnxruntime")
    with pytest.raises(BackendError, match=r"no backend runs this model: .*onnxruntime: the Python"):
        Engine.load(folder, "auto")


def test_warming_up_leaves_nothing_behind(engine: Engine, ran: list[str]) -> None:
    warm_up(engine)
    assert encoded_before_fusion(ran) == sorted(f"encoder_{m}" for m in ALL)
    assert not engine._kept


def test_the_engine_runs_without_torch_and_rclpy(folder: Path, repository: Path) -> None:
    program = (
        "import sys\n"
        "sys.modules['torch'] = sys.modules['rclpy'] = sys.modules['onnx'] = None\n"
        "from robust_perception.engine.engine import Engine, warm_up\n"
        f"warm_up(Engine.load({str(folder)!r}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=repository, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_latents_made_ahead_are_those_the_inference_would_make(tmp_path: Path) -> None:
    engine = Engine.load(make_model(tmp_path / "tiny"), "onnxruntime")
    generator = np.random.default_rng(1)
    frames = {
        Modality.RGB: SensorFrame(Modality.RGB, generator.integers(0, 255, (64, 96, 3), np.uint8), 5),
        Modality.DEPTH: SensorFrame(Modality.DEPTH, generator.random((64, 96)).astype(np.float32) * 5, 5),
    }
    both = FrameSet(Pattern.of(frames), frames, Modality.RGB)
    plain = engine.infer(both)
    engine.reset()
    assert engine.encode([frames[Modality.RGB]])
    assert not engine.encode([frames[Modality.RGB]]), "in hand already"
    ahead = engine.infer(both)
    np.testing.assert_array_equal(ahead.label_map, plain.label_map)
    np.testing.assert_array_equal(ahead.boxes, plain.boxes)
    spent = {"encode/rgb", "encode/depth"}
    assert spent <= set(ahead.timings_ms)
    assert ahead.timings_ms["total"] >= ahead.timings_ms["encode/rgb"] + ahead.timings_ms["fuse"]
    again = engine.infer(both)
    assert not spent & set(again.timings_ms), "latents that are used again cost nothing"
