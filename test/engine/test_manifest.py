"""Manifests: what is accepted, and what a damaged model folder says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import make_model

from robust_perception.engine.engine import Engine
from robust_perception.engine.errors import ManifestError, ModelFileError
from robust_perception.engine.manifest import MAXIMUM_MANIFEST_BYTES, AdapterSpec, Manifest
from robust_perception.engine.model_files import FileSpec
from robust_perception.engine.models import find_model
from robust_perception.vocabulary import Modality, Pattern


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_model(tmp_path / "tiny")


def change(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def nested(levels: int) -> object:
    return [nested(levels - 1)] if levels else 1


FITTED = {"temperature": 1.5, "error_before": 0.1, "error": 0.01}


def test_what_was_saved_is_loaded(folder: Path) -> None:
    manifest = Manifest.load(folder)
    again = folder.parent / "again"
    again.mkdir()
    manifest.save(again)
    assert (again / "manifest.json").read_bytes() == (folder / "manifest.json").read_bytes()
    assert manifest.modalities == tuple(Modality)
    assert manifest.threshold(Pattern(3)) == 0.3
    assert len(manifest.patterns) == 15


def test_a_bank_of_adapters_is_described_and_may_be_missing(folder: Path) -> None:
    assert Manifest.load(folder).adapters is None
    assert "adapters" not in json.loads((folder / "manifest.json").read_text()), "written as it was before"
    bank = {
        "kind": "ssf",
        "layers": {"encoders": 5, "fusion": 2},
        "parameters": {"1": 30, "6": 50},
        "shared": 10000,
    }
    change(folder, lambda c: c.update(adapters=bank))
    manifest = Manifest.load(folder)
    assert manifest.adapters == AdapterSpec("ssf", {"encoders": 5, "fusion": 2}, {1: 30, 6: 50}, 10000)
    assert manifest.adapters.share(Pattern(6)) == 0.005
    assert manifest.adapters.share(Pattern(15)) == 0.0
    manifest.save(folder)
    assert Manifest.load(folder) == manifest
    info = Engine.load(str(folder), "onnxruntime", threads=1).info
    assert info.adapter(Pattern.parse("depth+thermal")) == "ssf depth+thermal"
    assert info.adapter(Pattern.parse("depth")) == "none"
    for wrong in (
        {"kind": ""},
        {"shared": 0},
        {"parameters": {"16": 3}},
        {"parameters": {"1": 0}},
        {"parameters": {"01": 5}},
        {"rank": 3},
    ):
        change(folder, lambda c, wrong=wrong: c.update(adapters={**bank, **wrong}))
        with pytest.raises(ManifestError, match=r"manifest\.json: "):
            Manifest.load(folder)


def test_identity_is_that_of_the_written_file(folder: Path) -> None:
    assert Manifest.load(folder).sha256 == FileSpec.of(folder / "manifest.json").sha256


def test_identity_changes_with_any_file(folder: Path) -> None:
    before = Manifest.load(folder).sha256
    change(folder, lambda c: c["graphs"]["fusion"].update(sha256="0" * 64))
    assert Manifest.load(folder, check_files=False).sha256 != before


@pytest.mark.parametrize("file", ["encoder_rgb.onnx", "encoder_audio.onnx", "fusion.onnx", "references.npz"])
def test_one_flipped_bit_is_found(folder: Path, file: str) -> None:
    expected = FileSpec.of(folder / file).sha256
    content = bytearray((folder / file).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / file).write_bytes(content)
    with pytest.raises(ModelFileError) as error:
        Manifest.load(folder)
    message = str(error.value)
    assert str(folder / file) in message
    assert f"expected sha256 {expected}" in message
    assert FileSpec.of(folder / file).sha256 in message, "what was got"
    assert "robust-perception export" in message, "the mend"


def test_a_cut_file_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "fusion.onnx"
    expected = path.stat().st_size
    path.write_bytes(path.read_bytes()[:100])
    read: list[Path] = []
    monkeypatch.setattr(Path, "read_bytes", lambda self: read.append(self) or b"")
    with pytest.raises(ModelFileError, match=rf"fusion\.onnx: expected {expected} bytes .* got 100 bytes"):
        Manifest.load(folder)
    assert not read


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "encoder_depth.onnx").unlink()
    with pytest.raises(
        ModelFileError, match=r"encoder_depth\.onnx: expected a file of \d+ bytes .* got none"
    ):
        Manifest.load(folder)


def test_a_file_that_cannot_be_read_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(ModelFileError, match=r"\.onnx: expected a file that can be read, got .*Permission"):
        Manifest.load(folder)


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"manifest\.json: expected a model's manifest, got no such file"):
        Manifest.load(tmp_path)


def test_a_huge_manifest_is_not_read(folder: Path) -> None:
    with (folder / "manifest.json").open("wb") as file:
        file.truncate(MAXIMUM_MANIFEST_BYTES + 1)
    with pytest.raises(ManifestError, match=f"at most {MAXIMUM_MANIFEST_BYTES} bytes, got"):
        Manifest.load(folder)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "null", '{"name": "x"}', "\x00", pytest.param("[" * 200_000, id="deep")]
)
def test_what_is_no_manifest_is_refused(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)
    with pytest.raises(ManifestError, match=r"manifest\.json: expected a JSON object with 'schema'"):
        Manifest.load(folder)


def test_bytes_that_are_no_text_are_refused(folder: Path) -> None:
    (folder / "manifest.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ManifestError, match="expected UTF-8 text"):
        Manifest.load(folder)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.update(schema=99), "expected schema 1, got 99"),
        (lambda c: c.pop("class_names"), "class_names"),
        (lambda c: c.update(surprise=1), "surprise"),
        (lambda c: c.update(modalities=["rgb", "radar"]), "radar"),
        (lambda c: c.update(size=[0, 10]), "size: expected"),
        (lambda c: c.update(size=[10]), "size: expected 2 values"),
        (lambda c: c.update(size=[240.9, 320]), "size: expected a whole number, got 240.9"),
        (lambda c: c.update(size=[float("inf"), 320]), "size: expected a whole number, got inf"),
        (lambda c: c.update(name=None), "name: expected a text"),
        (lambda c: c.update(name="\ud800"), "name: expected a text of Unicode characters"),
        (lambda c: c.update(modalities=["rgb", *c["modalities"]]), "modalities: expected sensors, each once"),
        (lambda c: c.update(modalities=[]), "modalities: .*, got none"),
        (lambda c: c.update(class_names="abc"), "class_names: expected a list, got 'abc'"),
        (lambda c: c.update(class_names=["background"]), "class_names: expected 2 to 255 names"),
        (lambda c: c.update(class_names=["a", "a"]), "each once"),
        (lambda c: c.update(nms_iou=0), "nms_iou: expected"),
        (lambda c: c.update(max_detections=0), "max_detections: expected"),
        (lambda c: c.update(max_detections=1.5), "max_detections: expected a whole number, got 1.5"),
        (lambda c: c.update(max_detections=True), "max_detections: expected a whole number, got True"),
        (lambda c: c.update(exporter=7), "exporter: expected names and values, got 7"),
        (lambda c: c.update(training={"loss": [float("nan")]}), "training: loss: expected a finite number"),
        (lambda c: c.update(training={"a": nested(100)}), "training: a: expected at most 16 levels"),
        (lambda c: c.update(quality={"fp32": {"15": float("nan")}}), "quality: fp32: 15: expected a finite"),
        (lambda c: c.update(quality={"fp32": {"99": 5.0}}), "quality: fp32: expected patterns out of"),
        (lambda c: c.update(calibration={"99": FITTED}), "calibration: expected patterns out of"),
        (lambda c: c.update(calibration={"15": {**FITTED, "error": "1"}}), "calibration: 15: error: "),
        (lambda c: c.update(calibration={"15": {**FITTED, "temperature": 0}}), "calibration: 15: temp"),
        (lambda c: c.update(calibration={"015": FITTED}), "calibration: expected a pattern's bits"),
        (lambda c: c["graphs"].pop("encoder_rgb"), "graphs: expected"),
        (lambda c: c["graphs"]["fusion"].update(file="../fusion.onnx"), "plain file name"),
        (lambda c: c["graphs"]["fusion"].update(file="/etc/passwd"), "plain file name"),
        (lambda c: c["graphs"]["fusion"].update(file="a" * 300), "graphs: fusion: .* of at most 255 bytes"),
        (lambda c: c["graphs"]["fusion"].pop("inputs"), "graphs: fusion: expected also .*inputs"),
        (lambda c: c["graphs"]["fusion"].update(bytes=10.0), "fusion: bytes: expected a whole number"),
        (lambda c: c["graphs"]["fusion"].update(bytes=1 << 40), "expected a size from 1"),
        (lambda c: c["graphs"]["fusion"].update(sha256="abc"), "64 hexadecimal digits"),
        (lambda c: c["graphs"]["fusion"]["inputs"][0].update(shape=[-1]), "shape of positive integers"),
        (lambda c: c["score_threshold"].pop("15"), "score_threshold: expected"),
        (lambda c: c["score_threshold"].update({"15": 1.5}), "values from 0 to 1"),
    ],
)
def test_values_that_are_not_allowed_are_named(
    folder: Path, edit: Callable[[dict[str, Any]], Any], message: str
) -> None:
    change(folder, edit)
    with pytest.raises(ManifestError, match=message) as error:
        Manifest.load(folder)
    assert str(folder / "manifest.json") in str(error.value)


def swap(content: dict[str, Any], one: str, other: str) -> None:
    content[one], content[other] = content[other], content[one]


def part(content: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = content["parts"]["int8"][f"fusion_{name}"]
    return found


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c["parts"].update(int4={}), "parts: expected some of"),
        (lambda c: c["parts"]["int8"].update(fusion_rest=part(c, "map")), "parts: int8: expected some of"),
        (lambda c: c["parts"]["int8"].clear(), "parts: int8: expected some of"),
        (lambda c: swap(c["parts"]["int8"], "fusion_map", "fusion_common"), "fusion_common: expected inputs"),
        (lambda c: c["parts"]["int8"].pop("fusion_map"), "int8: expected the outputs of the fusion, each"),
        (lambda c: c["parts"]["int8"].pop("fusion_coarse"), "int8: fusion_common: expected inputs"),
        (lambda c: part(c, "common")["inputs"][0].update(name="x"), "int8: fusion_common: expected inputs"),
        (lambda c: part(c, "map")["inputs"][0].update(name="x"), "int8: fusion_map: expected inputs"),
        (lambda c: part(c, "objects")["inputs"][0].update(shape=[7]), "int8: fusion_objects: expected"),
        (lambda c: part(c, "map")["outputs"].pop(), "int8: expected the outputs of the fusion, each once"),
        (lambda c: part(c, "map").update(file="../a"), "parts: int8: fusion_map: .*plain file name"),
    ],
)
def test_parts_that_do_not_fit_the_fusion_are_named(
    tmp_path: Path, edit: Callable[[dict[str, Any]], Any], message: str
) -> None:
    shutil.copy(find_model("default") / "manifest.json", tmp_path)
    change(tmp_path, edit)
    with pytest.raises(ManifestError, match=message):
        Manifest.load(tmp_path)


def test_files_of_parts_are_files_of_the_model(tmp_path: Path) -> None:
    folder = shutil.copytree(find_model("default"), tmp_path / "model")
    manifest = Manifest.load(folder)
    assert "parts" in json.loads((folder / "manifest.json").read_text())
    part = folder / manifest.parts["int8"]["fusion_map"].file
    part.write_bytes(part.read_bytes()[:-1] + b"?")
    with pytest.raises(ModelFileError, match=part.name):
        Manifest.load(folder)


def test_a_model_without_parts_is_written_as_it_was_before(folder: Path) -> None:
    assert Manifest.load(folder).parts == {}
    assert "parts" not in json.loads((folder / "manifest.json").read_text())


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = make_model(tmp_path_factory.mktemp("shared") / "tiny")
    return folder, json.loads((folder / "manifest.json").read_text())


@given(data=st.data())
def test_any_value_in_any_place_is_refused_by_name_or_makes_a_manifest(
    shared: tuple[Path, dict[str, Any]], data: st.DataObject
) -> None:
    folder, content = shared
    content = place = json.loads(json.dumps(content))
    while True:
        key = data.draw(st.sampled_from(range(len(place)) if isinstance(place, list) else sorted(place)))
        if not isinstance(place[key], (dict, list)) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(PLAIN)
    (folder / "manifest.json").write_text(json.dumps(content))
    try:
        manifest = Manifest.load(folder)
    except ManifestError as error:
        assert str(error).startswith(f"{folder / 'manifest.json'}: ")
    except ModelFileError:
        pass  # another size, hash or name of a file
    else:
        assert len(manifest.sha256) == 64
        assert all(0 <= manifest.threshold(pattern) <= 1 for pattern in manifest.patterns)
