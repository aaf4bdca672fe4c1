"""What a result depends on: the same for the same data, another for other data, however it lies there."""

from __future__ import annotations

from pathlib import Path

import pytest
import small_folder

from robust_perception.evaluation.recipe import data_sha256


def test_a_folder_that_is_a_link_counts_as_what_it_leads_to(tmp_path: Path) -> None:
    data = small_folder.write(tmp_path / "data", 2)
    before = data_sha256(data, "test")
    (data / "test" / "rgb").rename(tmp_path / "elsewhere")
    assert data_sha256(data, "test") != before
    (data / "test" / "rgb").symlink_to(tmp_path / "elsewhere")
    assert data_sha256(data, "test") == before
    picture = next((tmp_path / "elsewhere").iterdir())
    picture.write_bytes(picture.read_bytes() + b"?")
    assert data_sha256(data, "test") != before


@pytest.mark.parametrize("changed", ["classes.json", "test/scene.json", "test/label/00.png", "a name"])
def test_whatever_a_result_depends_on_changes_it(changed: str, tmp_path: Path) -> None:
    data = small_folder.write(tmp_path / "data", 2)
    before = data_sha256(data, "test")
    if changed == "a name":
        picture = data / "test" / "rgb" / "00.png"
        picture.rename(picture.with_name("000.png"))
    else:
        path = data / changed
        path.write_bytes(path.read_bytes() + b" ")
    assert data_sha256(data, "test") != before
    small_folder.write(tmp_path / "again", 2)
    assert data_sha256(tmp_path / "again", "test") == before, "where it lies does not matter"
