"""Which bags a folder holds, and which a list names."""

from __future__ import annotations

from pathlib import Path

import pytest

from robust_perception.fleet.errors import FleetError
from robust_perception.fleet.find import Bag, find_bags


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b/metadata.yaml", "b/b_0.mcap", "a/deep/metadata.yaml", "c.mcap", "d/d_0.db3", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_a_folder_is_looked_through_and_a_bag_is_one(tree: Path) -> None:
    assert [bag.name for bag in find_bags(tree)] == ["a/deep", "b", "c.mcap", "d/d_0.db3"]
    assert find_bags(tree / "b") == [Bag("b", tree / "b")]
    assert find_bags(tree / "c.mcap") == [Bag("c.mcap", tree / "c.mcap")]


def test_compressed_files_are_bags_too_but_not_beside_the_plain_ones(tree: Path) -> None:
    for name in ("d/d_0.db3.zstd", "e/e_0.db3.zstd"):
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).touch()
    assert [bag.name for bag in find_bags(tree)][-2:] == ["d/d_0.db3", "e/e_0.db3.zstd"]
    assert find_bags(tree / "e/e_0.db3.zstd") == [Bag("e_0.db3.zstd", tree / "e/e_0.db3.zstd")]


def test_a_list_keeps_its_order_and_begins_at_its_own_folder(tree: Path) -> None:
    listed = tree / "lists" / "all.txt"
    listed.parent.mkdir()
    listed.write_text(f"# of Tuesday\n../c.mcap  # the short one\n\n{tree / 'b'}\n")
    assert find_bags(listed) == [
        Bag("../c.mcap", listed.parent / "../c.mcap"),
        Bag(str(tree / "b"), tree / "b"),
    ]


def test_what_holds_no_bag_is_named(tree: Path) -> None:
    (tree / "empty").mkdir()
    (tree / "empty.txt").write_text("# nothing\n")
    (tree / "twice.txt").write_text("b\n./b\n")
    for source, message in (
        ("nothing", "expected a folder with bags or a text file that lists them, got nothing"),
        ("empty", "expected bags (folders with metadata.yaml, .mcap or .db3 files), got none"),
        ("empty.txt", "expected a bag a line, got none"),
        ("twice.txt", "expected every bag once, got ./b, b more than once"),
    ):
        with pytest.raises(FleetError) as error:
            find_bags(tree / source)
        assert message in str(error.value)


def test_a_link_to_a_bag_that_is_there_too_is_no_second_one(tree: Path) -> None:
    (tree / "a_latest").symlink_to("b")
    (tree / "circle").symlink_to(".")
    (tree / "elsewhere").symlink_to(tree / "a" / "deep")
    assert [bag.name for bag in find_bags(tree)] == ["a/deep", "b", "c.mcap", "d/d_0.db3"]
    (tree.parent / "beside").mkdir()
    (tree.parent / "beside" / "metadata.yaml").touch()
    (tree / "a_link").symlink_to(tree.parent / "beside")
    assert [bag.name for bag in find_bags(tree)][:2] == ["a/deep", "a_link"]
