"""What ONNX Runtime is given: files that were checked, threads that do not get in each other's way."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from tiny_model import described, make_model

from robust_perception.engine.engine import Engine
from robust_perception.engine.errors import BackendError, ModelFileError
from robust_perception.engine.manifest import Manifest
from robust_perception.engine.onnxruntime import OnnxRuntimeBackend


def test_a_damaged_graph_is_named_before_it_is_parsed(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "tiny")
    content = bytearray((folder / "encoder_rgb.onnx").read_bytes())
    content[-1] ^= 255
    (folder / "encoder_rgb.onnx").write_bytes(content)
    with pytest.raises(
        ModelFileError, match=r"encoder_rgb\.onnx: expected sha256 [0-9a-f]{64}, got [0-9a-f]{64}"
    ):
        Engine.load(folder)


def test_a_file_that_is_no_graph_is_named(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "tiny")
    (folder / "fusion.onnx").write_bytes(b"not a graph")
    described(folder, "fusion")
    with pytest.raises(BackendError, match=r"fusion\.onnx: expected a graph ONNX Runtime \S+ can run"):
        Engine.load(folder, "onnxruntime")


def test_a_graph_with_other_tensors_than_described_is_refused(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "tiny")
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    content["graphs"]["encoder_depth"]["outputs"][0]["shape"][1] = 99
    path.write_text(json.dumps(content))
    with pytest.raises(
        BackendError, match=r"encoder_depth\.onnx: expected the outputs .*99.* of the manifest, got"
    ):
        Engine.load(folder, "onnxruntime")


def test_a_wrong_input_names_graph_and_tensor(folder: Path) -> None:
    manifest = Manifest.load(folder)
    backend = OnnxRuntimeBackend(folder, manifest, threads=1)
    with pytest.raises(
        BackendError, match=r"encoder_rgb: expected input rgb uint8\[1, 64, 96, 3\], got float32"
    ):
        backend.run("encoder_rgb", {"rgb": np.zeros((1, 64, 96, 3), np.float32)})
    with pytest.raises(BackendError, match="graph: expected one of"):
        backend.run("encoder_radar", {})


def test_a_graph_that_fails_as_it_runs_is_a_rejection_with_its_name(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "tiny")
    model = onnx.load(folder / "fusion.onnx")
    made = next(node for node in model.graph.node if "confidence" in node.output)
    made.output[:] = ["before"]
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "table"))
    model.graph.node.extend(  # the table has one row: every pattern is beyond it
        [
            helper.make_node("Gather", ["table", "pattern"], ["row"]),
            helper.make_node("Add", ["before", "row"], ["confidence"]),
        ]
    )
    onnx.save(model, folder / "fusion.onnx")
    described(folder, "fusion")
    with pytest.raises(BackendError, match=r"onnxruntime: expected fusion in fp32 to run, got: .*indices"):
        Engine.load(folder, "onnxruntime")
    with pytest.raises(BackendError, match=r"no backend runs this model: .*onnxruntime fp32: onnx.* to run"):
        Engine.load(folder, "auto")


@pytest.mark.parametrize(
    ("threads", "version", "spins"),
    [(1, "1.32.0", "0"), (2, "1.26.0", "1"), (2, "1.25.1", "0"), (2, "2.0.0rc1", "1")],
)
def test_sessions_have_the_asked_threads_and_spin_briefly_or_not_at_all(
    folder: Path, monkeypatch: pytest.MonkeyPatch, threads: int, version: str, spins: str
) -> None:
    monkeypatch.setattr(onnxruntime, "__version__", version)  # before 1.26 they would spin for long
    backend = OnnxRuntimeBackend(folder, Manifest.load(folder), threads=threads)
    for graph, session in backend._sessions.items():
        options = session.get_session_options()
        alone = graph == "encoder_audio"  # too small to be shared out
        assert options.intra_op_num_threads == (1 if alone else threads)
        assert options.get_session_config_entry("session.intra_op.allow_spinning") == (
            "0" if alone else spins
        )
        assert options.get_session_config_entry("session.force_spinning_stop") == "1"
        assert 0 < int(options.get_session_config_entry("session.intra_op.spin_duration_us")) <= 20


def test_a_backend_of_some_graphs_knows_no_others(folder: Path) -> None:
    manifest = Manifest.load(folder)
    backend = OnnxRuntimeBackend(folder, manifest, threads=1, graphs=["encoder_rgb"])
    given = np.zeros((1, 64, 96, 3), np.uint8)
    assert set(backend.run("encoder_rgb", {"rgb": given})) == {
        t.name for t in manifest.graphs["encoder_rgb"].outputs
    }
    with pytest.raises(BackendError, match=r"graph: expected one of \['encoder_rgb'\], got 'fusion'"):
        backend.run("fusion", {})


@pytest.mark.parametrize("threads", [0, -1])
def test_a_wrong_thread_count_is_refused(folder: Path, threads: int) -> None:
    with pytest.raises(BackendError, match=f"threads: expected a positive number or none, got {threads}"):
        Engine.load(folder, "onnxruntime", threads)
