"""Which folder a model's name or path means."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_model import make_model

from robust_perception.engine import models
from robust_perception.engine.errors import ModelNotFoundError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "tiny")


def test_models_are_found_by_path_by_manifest_and_by_name(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert models.find_model(folder) == folder
    assert models.find_model(folder / "manifest.json") == folder
    installed = tmp_path / "share" / "robust_perception" / "models"
    installed.mkdir(parents=True)
    (installed / "mine").symlink_to(folder)
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/nowhere:{tmp_path}")
    assert models.find_model("mine") == installed / "mine"
    with pytest.raises(
        ModelNotFoundError, match=r"expected a folder or one of \[.*'mine'.*\], got 'yours'; looked in"
    ):
        models.find_model("yours")
    monkeypatch.chdir(folder)
    with pytest.raises(ModelNotFoundError, match="got ''; looked in"):
        models.find_model("")
    assert models.find_model(".") == Path()
    for wrong in ("~nobody-of-this-name/x", "x" * 300):
        with pytest.raises(ModelNotFoundError, match=r"or the name of an installed model, got '[~x]"):
            models.find_model(wrong)
    with pytest.raises(
        ModelNotFoundError, match=r"expected a model folder with manifest\.json, got a folder without"
    ):
        models.find_model(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "theirs"):
        (tmp_path / name).mkdir()
    assert models.find_model("mine") == installed / "mine"
    with pytest.raises(ModelNotFoundError, match="theirs: expected a model folder with"):
        models.find_model("theirs")
