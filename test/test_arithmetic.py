"""benchmarks/arithmetic.py: what it counts, and that its figures follow from the times it took."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from benchmarks import arithmetic, performance_page


def graph(nodes: list[onnx.NodeProto], shape: tuple[int, ...], **weights: tuple[int, ...]) -> onnx.ModelProto:
    made = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(np.zeros(s, np.float32), name) for name, s in weights.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)])


@pytest.mark.parametrize(
    ("node", "shape", "weight", "expected"),
    [
        (helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1]), (1, 8, 6, 10), (16, 8, 3, 3), 69120),
        (helper.make_node("Conv", ["x", "w"], ["y"], strides=[2, 2]), (1, 8, 6, 10), (16, 8, 1, 1), 1920),
        (helper.make_node("Conv", ["x", "w"], ["y"], group=8), (1, 8, 6, 10), (8, 1, 3, 3), 2304),
        (helper.make_node("MatMul", ["x", "w"], ["y"]), (4, 6, 10), (10, 3), 720),
        (helper.make_node("Gemm", ["x", "w"], ["y"]), (6, 10), (10, 3), 180),
        (helper.make_node("Gemm", ["x", "w"], ["y"], transA=1), (10, 6), (10, 3), 180),
        (helper.make_node("Mul", ["x", "w"], ["y"]), (6, 10), (6, 10), 0),
    ],
)
def test_convolutions_and_products_are_counted(
    node: onnx.NodeProto, shape: tuple[int, ...], weight: tuple[int, ...], expected: int
) -> None:
    assert arithmetic.multiply_adds(graph([node], shape, w=weight)) == expected


def test_a_product_is_that_of_its_matrices() -> None:
    session = arithmetic.product_session(8, 1)
    eye = np.eye(8, dtype=np.float32)
    (weights,) = session.run(None, {"x": eye})
    (doubled,) = session.run(None, {"x": 2 * eye})
    np.testing.assert_array_equal(doubled, 2 * weights)


def test_the_figures_follow_from_the_times(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    file = tmp_path / "found.json"
    model = repository / "models/default"
    words = ["--model", str(model), "--threads", "1", "--rounds", "1", "--json", str(file)]
    assert arithmetic.main(words) == 0
    found = json.loads(file.read_text())
    manifest = json.loads((model / "manifest.json").read_text())
    assert found["multiply_adds"].keys() == manifest["graphs"].keys()
    total = sum(found["multiply_adds"].values())
    for name in (arithmetic.ENGINE, arithmetic.TORCH):
        rate = found["giga_multiply_adds_a_second"]
        assert math.isclose(rate["frame"][name] * found["seconds"]["frame"][name], total / 1e9)
        product = arithmetic.SIDE**3 / 1e9
        assert math.isclose(rate["product"][name] * found["seconds"]["product"][name], product)
    # In one round the two differ by what the engine lacks to the product's rate.
    rates = found["giga_multiply_adds_a_second"]
    share = rates["frame"][arithmetic.ENGINE] / rates["product"][arithmetic.ENGINE]
    assert math.isclose(found["times_as_long_at_most"] * share, found["times_as_long"])
    assert capsys.readouterr().out == performance_page.figures_of(file) + "\n"
