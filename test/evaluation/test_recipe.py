"""What a result depends on: the same for the same data, another for other data, however it lies there."""

from __future__ import annotations

from pathlib import Path

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
