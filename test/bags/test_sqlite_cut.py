"""sqlite3 bags that are cut off, compressed or not: repair into a new bag gives what stood before the cut."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robust_perception.bag import main
from robust_perception.bags import repair, types
from robust_perception.bags.dataset import audio, image
from robust_perception.bags.errors import BagError
from robust_perception.bags.reader import BagReader
from robust_perception.bags.writer import BagWriter, Split

COUNT = 20


def messages() -> list[tuple[str, str, bytes, int]]:
    """Pictures that take several pages, sound that takes one and a bit, and a few that share a page."""
    generator = np.random.default_rng(4)
    made = []
    for i in range(COUNT):
        stamp = (1 + i) * 10**8
        pixels = generator.integers(0, 256, (96, 160, 3)).astype(np.uint8)
        made.append(("/rgb/image", types.IMAGE, image(pixels, "rgb8", stamp, "c"), stamp))
        for topic, size in (("/audio", 34000), ("/short", 3000)):
            made.append((topic, types.AUDIO, audio(generator.bytes(size), stamp, "c"), stamp + 1))
    return made


MESSAGES = messages()


@pytest.fixture(scope="module")
def bags(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same messages under every compression."""
    made = {}
    for compression in ("none", "message", "file"):
        made[compression] = tmp_path_factory.mktemp("bags") / compression
        with BagWriter(made[compression], "sqlite3", compression) as writer:
            for message in MESSAGES:
                writer.write(*message)
    return made


def damaged(bag: Path, out: Path, where: float, junk: bytes = b"") -> Path:
    """A copy of a bag whose file ends at this part of it, or has other bytes there."""
    shutil.copytree(bag, out)
    (file,) = out.glob("*.db3*")
    data = file.read_bytes()
    at = round(len(data) * where)
    file.write_bytes(data[:at] + junk + data[at + len(junk) :] if junk else data[:at])
    return out


def read(bag: Path) -> list[tuple[str, str, bytes, int]]:
    with BagReader(bag) as opened:
        return [tuple(message) for message in opened.messages()]


@settings(max_examples=20, deadline=None)
@given(where=st.floats(0.05, 0.9999), compression=st.sampled_from(["none", "message", "file"]))
def test_what_is_copied_was_recorded_so(
    where: float, compression: str, bags: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("cut")
    cut = damaged(bags[compression], place / "cut", where)
    try:
        done = repair.copy(cut, place / "new")
    except BagError as error:
        assert "cut off, " in str(error)
        assert where < 0.3
        return
    got = read(place / "new")
    places = [MESSAGES.index(message) for message in got]
    assert places == sorted(set(places)), "each as it was, and in order"
    assert done.messages == len(got) > (where - 0.3) * len(MESSAGES)
    if not done.problems:  # compressed, only the end of the compression was cut
        assert len(got) == len(MESSAGES)


@pytest.mark.parametrize("compression", ["none", "file"])
def test_the_way_out_is_told_and_works(
    compression: str, bags: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = damaged(bags[compression], tmp_path / "cut", 0.6)
    (file,) = cut.glob("*.db3*")
    for words in (["info", str(cut)], ["repair", str(cut)]):
        assert main(words) == 1
        told = capsys.readouterr().err
        assert f"{file.name}: cut off, " in told
        assert f"`robust-perception bag repair {cut} --out NEW`" in told
    assert main(["repair", str(cut), "--out", str(tmp_path / "new")]) == 0
    assert "which is whole now" in capsys.readouterr().out
    assert len(read(tmp_path / "new")) > len(MESSAGES) / 3


def test_a_message_whose_end_is_missing_is_not_taken_for_whole(tmp_path: Path) -> None:
    """SQLite opens a file that lacks a part of its last page, and gives zeros for it."""
    with BagWriter(tmp_path / "bag", "sqlite3") as writer:
        for topic, msgtype, data, stamp in MESSAGES[::3]:
            writer.write(topic, msgtype, data, stamp)
    cut = damaged(tmp_path / "bag", tmp_path / "cut", 0.999)
    with pytest.raises(BagError, match="cut off, "):
        BagReader(cut)
    assert repair.copy(cut, tmp_path / "new").problems
    assert read(tmp_path / "new") == MESSAGES[: 3 * len(read(tmp_path / "new")) : 3]


def test_what_stands_before_a_damage_of_the_compression_is_taken(
    bags: dict[str, Path], tmp_path: Path
) -> None:
    broken = damaged(bags["file"], tmp_path / "broken", 0.7, b"\xff" * 140_000)
    done = repair.copy(broken, tmp_path / "new")
    assert "damaged after" in done.problems[0]
    got = read(tmp_path / "new")
    assert got == MESSAGES[: len(got)]
    assert len(got) > len(MESSAGES) / 4


@pytest.mark.parametrize("compression", ["none", "file"])
@pytest.mark.parametrize("kind", ["cut", "damaged"])
def test_one_file_among_several_is_not_given_up_in_place(
    kind: str, compression: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Metadata without the file would hide that part of it can be read, from every later reader too."""
    bag = tmp_path / "bag"
    with BagWriter(bag, "sqlite3", compression, Split(seconds=0.7)) as writer:
        for message in MESSAGES:
            writer.write(*message)
    files = sorted(bag.glob("*.db3*"))
    assert len(files) > 2
    data = files[1].read_bytes()
    at = round(len(data) * 0.6)
    files[1].write_bytes(data[:at] if kind == "cut" else data[:at] + b"\xff" * (len(data) - at))
    (bag / "metadata.yaml").unlink()  # or there would be nothing to mend in place
    before = {path.name: path.read_bytes() for path in bag.iterdir()}
    assert main(["repair", str(bag)]) == 1
    told = capsys.readouterr().err
    assert files[1].name in told
    assert f"`robust-perception bag repair {bag} --out NEW`" in told
    assert {path.name: path.read_bytes() for path in bag.iterdir()} == before, "nothing was changed"
    assert main(["repair", str(bag), "--out", str(tmp_path / "new")]) == 0
    got = read(tmp_path / "new")
    without = sum(len(read(file)) for file in files if file != files[1])
    assert without < len(got) < len(MESSAGES)


def test_a_file_without_anything_stands_in_no_ones_way(tmp_path: Path) -> None:
    """As when the recorder was killed while it began the next one."""
    bag = tmp_path / "bag"
    with BagWriter(bag, "sqlite3") as writer:
        for message in MESSAGES:
            writer.write(*message)
    (bag / "metadata.yaml").unlink()
    (bag / "bag_1.db3").write_bytes(b"")
    assert repair.repair(bag).messages == len(MESSAGES)
    assert read(bag) == MESSAGES


def test_a_length_that_no_disk_holds_is_told_and_not_filled_up(bags: dict[str, Path], tmp_path: Path) -> None:
    bag = Path(shutil.copytree(bags["none"], tmp_path / "bag"))
    (file,) = bag.glob("*.db3")
    data = bytearray(file.read_bytes())
    data[16:18], data[28:32] = b"\x00\x01", b"\xff\xff\xff\xfe"  # pages of 64 KiB, and as many as can be
    file.write_bytes(data)
    with pytest.raises(BagError, match=r"expected room in .* for the 281474976579584 bytes that it had"):
        repair.copy(bag, tmp_path / "new")
