"""Bags whose recorder was killed, or that are damaged: what was readable is read, and can be made whole."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from robust_perception.bag import main as bag_command
from robust_perception.bags import mcap_scan, mcap_storage, types
from robust_perception.bags.errors import BagError
from robust_perception.bags.reader import BagReader
from robust_perception.bags.repair import copy, repair
from robust_perception.bags.writer import STORAGES, BagWriter, Split

STRING = "std_msgs/msg/String"


def text(number: int) -> bytes:
    """A message that tells its number; of a length of its own."""
    rng = np.random.default_rng(number)
    words = f"{number} " + rng.bytes(rng.integers(0, 90)).hex()
    return types.serialize(types.message_class(STRING)(data=words), STRING)


def write(path: Path, count: int, storage: str = "mcap", compression: str = "none", every: int = 7) -> None:
    """A bag of `count` messages on two topics, flushed now and then: several chunks."""
    with BagWriter(path, storage, compression) as bag:
        bag.add_topic("/latched", STRING, latched=True)
        for number in range(count):
            bag.write(f"/{'ab'[number % 2]}", STRING, text(number), number)
            if number % every == every - 1:
                bag.flush()


def storage_file(path: Path) -> Path:
    return next(p for p in path.iterdir() if p.suffix in (".mcap", ".db3"))


def read(path: Path) -> tuple[list[bytes], str]:
    """Messages and damage of a bag."""
    with BagReader(path) as bag:
        return [message.data for message in bag.messages()], bag.damage


@pytest.mark.parametrize("compression", STORAGES["mcap"])
@settings(max_examples=15)
@given(where=st.floats(0.0, 1.0), zeros=st.booleans())
def test_a_file_cut_anywhere_gives_the_messages_before_the_cut(
    compression: str, where: float, zeros: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("cut") / "bag"
    write(path, 40, compression=compression)
    (path / "metadata.yaml").unlink()
    file = storage_file(path)
    whole = file.read_bytes()
    scan = mcap_scan.scan(file)
    assert (scan.messages, scan.problems) == (40, ())
    at = int(where * len(whole))
    file.write_bytes(whole[:at] + bytes(4096 if zeros else 0))
    # A message is whole when its last byte is in the file; what is compressed, or followed by zeros that may
    # stand for the rest of a chunk, when its chunk is.
    most = sum(whole.index(text(n)) + len(text(n)) <= at for n in range(40)) if compression == "none" else 40
    least = 0 if compression != "none" else most // 7 * 7 if zeros else most
    try:
        found, damage = read(path)
    except BagError:
        assert least == 0
        return
    assert least <= len(found) <= most
    assert found == [text(number) for number in range(len(found))]
    assert f"{len(found)} messages that can be read" in damage
    before = file.read_bytes()
    assert before == whole[:at] + bytes(4096 if zeros else 0), "to read is not to write"
    assert repair(path).messages == len(found)
    assert read(path) == (found, "")
    assert repair(path).problems == (), "once is enough"


def test_a_repaired_file_is_whole_for_an_independent_reader(tmp_path: Path) -> None:
    reader = pytest.importorskip("mcap.reader")
    stream_reader = pytest.importorskip("mcap.stream_reader")
    write(tmp_path / "bag", 40)
    file = storage_file(tmp_path / "bag")
    whole = file.read_bytes()
    file.write_bytes(whole[: whole.index(text(30)) + 5])
    repair(file)
    with file.open("rb") as opened:
        found = [
            message.data for _, _, message in reader.make_reader(opened, validate_crcs=True).iter_messages()
        ]
    assert found == [text(number) for number in range(30)]
    with file.open("rb") as opened:
        records = list(stream_reader.StreamReader(opened, validate_crcs=True).records)
    assert sum(type(record).__name__ == "Message" for record in records) == 30


@pytest.mark.parametrize("compression", STORAGES["mcap"])
def test_a_damaged_chunk_is_left_out_and_told(compression: str, tmp_path: Path) -> None:
    path = tmp_path / "bag"
    write(path, 40, compression=compression)
    file = storage_file(path)
    content = bytearray(file.read_bytes())
    second = sorted(_chunks(file))[1]
    content[second + 200] ^= 0xFF
    file.write_bytes(content)
    with BagReader(path) as bag, pytest.raises(BagError, match=r"after 7 messages.*bag repair"):
        list(bag.messages())
    others = [text(number) for number in range(40) if not 7 <= number < 14]
    done = copy(path, tmp_path / "copy")
    assert done.messages == 33
    assert f"the chunk at byte {second} is left out" in done.problems[0]
    assert read(tmp_path / "copy") == (others, "")
    assert repair(path).messages == 33
    assert read(path) == (others, "")


def test_what_stands_behind_a_damage_is_found_by_the_summary(tmp_path: Path) -> None:
    path = tmp_path / "bag"
    write(path, 40)
    file = storage_file(path)
    content = bytearray(file.read_bytes())
    second = sorted(_chunks(file))[1]
    content[second : second + 9] = b"\xff" * 9  # neither opcode nor length: nothing leads on from here
    file.write_bytes(content)
    done = copy(path, tmp_path / "copy")
    assert f"at byte {second} it makes no sense" in done.problems[0]
    assert read(tmp_path / "copy")[0] == [text(number) for number in range(40) if not 7 <= number < 14]


@settings(max_examples=15)
@given(
    where=st.floats(0, 1),
    junk=st.binary(min_size=1, max_size=300),
    storage=st.sampled_from([("mcap", "none"), ("mcap", "zstd"), ("sqlite3", "none")]),
)
@example(where=0.24928689433239787, junk=b"\x001", storage=("mcap", "zstd"))  # into the index behind a chunk
def test_damage_of_any_kind_is_repaired_or_named(
    where: float, junk: bytes, storage: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("damage")
    write(folder / "bag", 30, *storage)
    file = storage_file(folder / "bag")
    content = file.read_bytes()
    at = int(where * len(content))
    file.write_bytes(content[:at] + junk + content[at + len(junk) :])
    with contextlib.suppress(BagError):
        done = copy(folder / "bag", folder / "copy")
        if done.messages:
            found, damage = read(folder / "copy")
            assert (len(found), damage) == (done.messages, "")
    with contextlib.suppress(BagError):
        repair(folder / "bag")
        with BagReader(folder / "bag") as bag:
            list(bag.messages())


@pytest.mark.parametrize("storage", STORAGES)
def test_missing_metadata_are_made_anew(storage: str, tmp_path: Path) -> None:
    path = tmp_path / "bag"
    with BagWriter(path, storage, split=Split(seconds=5e-9)) as bag:
        bag.add_topic("/latched", STRING, latched=True)
        for number in range(60):
            bag.write("/a", STRING, text(number), number)
    before = (path / "metadata.yaml").read_text()
    (path / "metadata.yaml").unlink()
    found, damage = read(path)
    assert found == [text(number) for number in range(60)], "twelve files, in the order of their numbers"
    assert "metadata.yaml is missing" in damage
    assert repair(path).messages == 60
    assert (path / "metadata.yaml").read_text() == before
    with BagReader(path) as whole:
        assert {topic.name: topic.latched for topic in whole.topics} == {"/a": False, "/latched": True}


def test_a_lost_file_is_named_and_the_others_are_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "bag"
    with BagWriter(path, split=Split(seconds=10e-9)) as bag:
        for number in range(30):
            bag.write("/a", STRING, text(number), number)
    (path / "bag_1.mcap").unlink()
    found, damage = read(path)
    assert found == [text(number) for number in [*range(10), *range(20, 30)]]
    assert "bag_1.mcap is missing" in damage
    assert [record.getMessage() for record in caplog.records] == [damage], "whoever reads it is told"


def test_messages_compressed_one_by_one_are_known_without_metadata(tmp_path: Path) -> None:
    write(tmp_path / "bag", 10, "sqlite3", "message")
    (tmp_path / "bag" / "metadata.yaml").unlink()
    assert read(tmp_path / "bag")[0] == [text(number) for number in range(10)]
    copy(tmp_path / "bag", tmp_path / "copy")
    assert read(tmp_path / "copy")[0] == [text(number) for number in range(10)]


def test_one_damaged_message_is_left_out_and_the_others_are_there(tmp_path: Path) -> None:
    write(tmp_path / "bag", 30, "sqlite3", "message")
    file = storage_file(tmp_path / "bag")
    with contextlib.closing(sqlite3.connect(file)) as connection:
        (row,) = connection.execute("SELECT id, data FROM messages ORDER BY id LIMIT 1 OFFSET 11").fetchall()
        broken = row[1][:5] + b"\xff" * (len(row[1]) - 5)
        connection.execute("UPDATE messages SET data = ? WHERE id = ?", (broken, row[0]))
        connection.commit()
    done = copy(tmp_path / "bag", tmp_path / "new")
    assert done.messages == 29
    assert [
        problem.startswith(f"{file.name}: message {row[0]} is left out") for problem in done.problems
    ] == [True]
    messages, damage = read(tmp_path / "new")
    assert (messages, damage) == ([text(number) for number in range(30) if number != 11], "")


@pytest.mark.parametrize("name", ["x.mcap", "x.db3", "x.mcap.zstd"])
def test_a_copy_of_what_cannot_be_read_is_no_bag(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"garbage" * 9)
    with pytest.raises(BagError, match="expected"):
        copy(tmp_path / name, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_copy_that_is_interrupted_leaves_no_bag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "bag", 30)
    written = BagWriter.write

    def interrupted(bag: BagWriter, topic: str, msgtype: str, data: bytes, stamp_ns: int) -> None:
        if stamp_ns == 20:
            raise KeyboardInterrupt
        written(bag, topic, msgtype, data, stamp_ns)

    monkeypatch.setattr(BagWriter, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        copy(tmp_path / "bag", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    with pytest.raises(BagError, match="expected a new path"):
        copy(tmp_path / "bag", tmp_path / "bag")
    assert (tmp_path / "bag").is_dir(), "what is there already is nobody's to remove"


def test_a_killed_writer_of_compressed_files_leaves_one_that_is_not(tmp_path: Path) -> None:
    path = tmp_path / "bag"
    bag = BagWriter(path, "sqlite3", "file", Split(seconds=5e-9))
    for number in range(12):
        bag.write("/a", STRING, text(number), number)
    bag.flush()  # and that was the last one heard of it
    assert sorted(p.name for p in path.iterdir()) == ["bag_0.db3.zstd", "bag_1.db3.zstd", "bag_2.db3"]
    shutil.copytree(path, tmp_path / "aside")
    everything = [text(number) for number in range(12)]
    assert read(path)[0] == everything
    assert copy(path, tmp_path / "copy").messages == 12
    assert read(tmp_path / "copy") == (everything, "")
    assert repair(tmp_path / "aside").messages == 12
    assert read(tmp_path / "aside") == (everything, "")
    assert not list((tmp_path / "aside").glob("*.db3"))


@pytest.mark.parametrize("part", ["folder", "file"])
def test_a_compressed_file_that_is_cut_off_is_repaired_where_it_is(part: str, tmp_path: Path) -> None:
    path = tmp_path / "bag"
    write(path, 40)
    file = storage_file(path)
    whole = file.read_bytes()
    cut = whole[: whole.index(text(30)) + 5]
    stored = file.with_name(f"{file.name}.zstd")
    stored.write_bytes(zstandard.compress(cut))
    file.unlink()
    told = (path / "metadata.yaml").read_text().replace(file.name, stored.name)
    told = told.replace("compression_format: ''", "compression_format: zstd")
    (path / "metadata.yaml").write_text(told.replace("compression_mode: ''", "compression_mode: FILE"))
    bag = path if part == "folder" else stored
    assert repair(bag).messages == 30
    assert read(bag) == ([text(number) for number in range(30)], "")
    assert repair(bag).problems == (), "once is enough"
    assert sorted(p.name for p in path.iterdir()) == [stored.name, "metadata.yaml"]
    with zstandard.open(stored) as opened:
        assert opened.read().endswith(mcap_scan.MAGIC), "the file itself, not a copy of it"


KILLED = """
import os, signal, sys
from pathlib import Path
from robust_perception.bags import types
from robust_perception.bags.writer import BagWriter
make = types.message_class("std_msgs/msg/String")
bag = BagWriter(Path(sys.argv[1]), sys.argv[2])
for number in range(1000):
    data = types.serialize(make(data=f"{number}".ljust(20_000)), "std_msgs/msg/String")
    bag.write("/a", "std_msgs/msg/String", data, number)
    if number == 899:
        bag.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("storage", STORAGES)
def test_a_killed_writer_loses_what_it_had_not_flushed(
    storage: str, tmp_path: Path, repository: Path
) -> None:
    path = tmp_path / "bag"
    words = [sys.executable, "-c", KILLED, str(path), storage]
    assert subprocess.run(words, cwd=repository, check=False).returncode == -signal.SIGKILL
    aside = tmp_path / "aside"
    shutil.copytree(path, aside)
    with BagReader(path) as bag:
        count = bag.message_count
        assert 900 <= count <= 1000
        assert [message.stamp_ns for message in bag.messages()] == list(range(count))
        assert "metadata.yaml is missing" in bag.damage
    assert bag_command(["repair", str(aside)]) == 0
    assert not read(aside)[1]
    assert len(read(aside)[0]) == count


def test_what_is_no_bag_is_named_by_repair(tmp_path: Path) -> None:
    (tmp_path / "x.mcap").write_bytes(b"")
    (tmp_path / "y.mcap").write_bytes(b"hello, world")
    (tmp_path / "z.db3").write_bytes(b"hello, world" * 100)
    for name in ("x.mcap", "y.mcap", "z.db3"):
        with pytest.raises(BagError, match=name):
            repair(tmp_path / name)
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    wrong = {"none": "nothing", "notes.txt": "a file '.txt'", "empty": "a folder with neither"}
    for name, got in wrong.items():
        with pytest.raises(BagError, match=f"{name}: .* got {got}"):
            repair(tmp_path / name)
        with pytest.raises(BagError, match=f"{name}: .* got {got}"):
            copy(tmp_path / name, tmp_path / "new")


def test_a_bag_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everything")
    write(tmp_path / "bag", 20)
    file = storage_file(tmp_path / "bag")
    file.write_bytes(file.read_bytes()[:-50])
    file.chmod(0o444)
    with pytest.raises(BagError, match="repair it into another folder"):
        repair(tmp_path / "bag")


def _chunks(file: Path) -> list[int]:
    reader = pytest.importorskip("mcap.reader")
    with file.open("rb") as opened:
        return [c.chunk_start_offset for c in reader.make_reader(opened).get_summary().chunk_indexes]


assert mcap_storage.CHUNK_BYTES > 1 << 20, "one flush of these small messages is one chunk"
