"""Bags of several files, and bags whose disk is full: what is in them, for every reader."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from robust_perception.bags import types
from robust_perception.bags.errors import BagError
from robust_perception.bags.reader import BagReader
from robust_perception.bags.writer import STORAGES, BagWriter, Split

STRING = "std_msgs/msg/String"
S = 1_000_000_000


def text(number: int, size: int = 0) -> bytes:
    """A String message with its number in it."""
    return types.serialize(types.message_class(STRING)(data=f"{number}".ljust(size)), STRING)


def test_a_name_that_leaves_no_room_for_those_of_files_is_refused(tmp_path: Path) -> None:
    with BagWriter(tmp_path / ("記" * 79)) as bag:
        bag.write("/a", STRING, text(0), 0)
    with BagReader(bag.path) as reader:
        assert reader.message_count == 1
    for name in ("記" * 80, "記" * 100):
        with pytest.raises(BagError, match=rf"expected a name of at most 237 bytes, .* got {3 * len(name)};"):
            BagWriter(tmp_path / name)
    assert list(tmp_path.iterdir()) == [bag.path]


def test_a_path_that_sqlite_does_not_open_is_refused(tmp_path: Path) -> None:
    room = 504 - len(str(tmp_path.resolve())) - len("//_99999.db3")
    path = tmp_path / ("b" * (room // 2))
    with BagWriter(path, "sqlite3", "file", Split(seconds=1.0)) as bag:
        for number in range(3):
            bag.write("/a", STRING, text(number), number * S)
    with BagReader(path) as reader:
        assert reader.message_count == 3
    with pytest.raises(BagError, match=r"at most 504 bytes, which SQLite takes, got 50[56]; take a shorter"):
        BagWriter(tmp_path / ("b" * (room // 2 + 1)), "sqlite3")
    assert list(tmp_path.iterdir()) == [path]


def write(path: Path, storage: str, split: Split, stamps: list[int], size: int = 100) -> list[bytes]:
    """A bag with a message at every stamp, on two topics in turn."""
    written = []
    with BagWriter(path, storage, split=split) as bag:
        bag.add_topic("/latched", STRING, latched=True)
        for number, stamp in enumerate(stamps):
            data = text(number, size)
            bag.write(f"/{'ab'[number % 2]}", STRING, data, stamp)
            written.append(data)
    return written


@pytest.mark.parametrize("storage", STORAGES)
def test_a_bag_is_split_by_time(storage: str, tmp_path: Path) -> None:
    path = tmp_path / "bag"
    written = write(path, storage, Split(seconds=1.0), [i * S // 4 for i in range(10)])
    suffix = {"mcap": "mcap", "sqlite3": "db3"}[storage]
    assert sorted(p.name for p in path.iterdir()) == [
        *(f"bag_{i}.{suffix}" for i in range(3)),
        "metadata.yaml",
    ]
    information = yaml.safe_load((path / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert [file["message_count"] for file in information["files"]] == [4, 4, 2]
    starts = [file["starting_time"]["nanoseconds_since_epoch"] for file in information["files"]]
    assert starts == [0, S, 2 * S]
    with BagReader(path) as bag:
        assert [message.data for message in bag.messages()] == written
        assert {topic.name: topic.count for topic in bag.topics} == {"/a": 5, "/b": 5, "/latched": 0}
        assert (bag.start_ns, bag.end_ns) == (0, 9 * S // 4)


@pytest.mark.parametrize("storage", STORAGES)
def test_every_file_of_a_split_bag_is_one_for_itself(storage: str, tmp_path: Path) -> None:
    path = tmp_path / "bag"
    written = write(path, storage, Split(size_bytes=1000), list(range(30)), size=200)
    files = sorted(p for p in path.iterdir() if p.suffix != ".yaml")
    assert len(files) > 5
    found = []
    for file in sorted(files, key=lambda p: int(p.stem.rpartition("_")[2])):
        with BagReader(file) as bag:
            found += [message.data for message in bag.messages()]
            assert {topic.name for topic in bag.topics} >= {"/a", "/latched"}
    assert found == written


@settings(max_examples=15)
@given(
    sizes=st.lists(st.integers(0, 5000), min_size=1, max_size=30),
    limit=st.integers(1, 6000),
    seconds=st.sampled_from([0.0, 0.5, 3.0]),
    storage=st.sampled_from(sorted(STORAGES)),
)
def test_no_file_is_larger_than_asked_and_nothing_is_lost(
    sizes: list[int], limit: int, seconds: float, storage: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("split") / "bag"
    with BagWriter(path, storage, split=Split(limit, seconds)) as bag:
        for number, size in enumerate(sizes):
            bag.write("/a", STRING, text(number, size), number * S // 5)
    with BagReader(path) as bag:
        assert [message.data for message in bag.messages()] == [text(n, size) for n, size in enumerate(sizes)]
    information = yaml.safe_load((path / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert [file["path"] for file in information["files"]] == information["relative_file_paths"]
    for file in information["files"]:
        assert file["duration"]["nanoseconds"] < seconds * S or not seconds
        if file["message_count"] > 1 and storage == "mcap":
            with BagReader(path / file["path"]) as one:
                assert sum(len(message.data) for message in one.messages()) <= limit


def test_the_metadata_are_those_of_rosbag2(tmp_path: Path) -> None:
    write(tmp_path / "bag", "sqlite3", Split(), [1 * S, 2 * S])
    information = yaml.safe_load((tmp_path / "bag" / "metadata.yaml").read_text())[
        "rosbag2_bagfile_information"
    ]
    assert information["version"] == 8
    assert information["storage_identifier"] == "sqlite3"
    assert information["starting_time"] == {"nanoseconds_since_epoch": S}
    assert information["duration"] == {"nanoseconds": S}
    assert information["message_count"] == 2
    topics = {t["topic_metadata"]["name"]: t for t in information["topics_with_message_count"]}
    (profile,) = yaml.safe_load(topics["/latched"]["topic_metadata"]["offered_qos_profiles"])
    assert (profile["reliability"], profile["durability"], profile["history"]) == (1, 1, 1)
    assert profile["deadline"] == {"sec": 9223372036, "nsec": 854775807}
    assert topics["/a"]["message_count"] == 1
    expected = types.typestore().hash_rihs01(STRING)
    assert topics["/a"]["topic_metadata"]["type_description_hash"] == expected
    assert topics["/a"]["topic_metadata"]["serialization_format"] == "cdr"


def test_a_channel_of_mcap_says_its_quality_and_its_type(tmp_path: Path) -> None:
    reader = pytest.importorskip("mcap.reader")
    write(tmp_path / "bag", "mcap", Split(), [1 * S, 2 * S])
    with next((tmp_path / "bag").glob("*.mcap")).open("rb") as file:
        found = reader.make_reader(file, validate_crcs=True)
        summary = found.get_summary()
        ((name, kept),) = [(m.name, m.metadata) for m in found.iter_metadata()]
    channels = {channel.topic: channel for channel in summary.channels.values()}
    assert yaml.safe_load(channels["/latched"].metadata["offered_qos_profiles"])[0]["durability"] == 1
    assert channels["/a"].metadata["topic_type_hash"] == types.typestore().hash_rihs01(STRING)
    assert summary.statistics.message_count == 2
    assert name == "rosbag2"
    assert yaml.safe_load(kept["serialized_metadata"])["message_count"] == 2


FULL = """
import json, resource, sys
from pathlib import Path
from robust_perception.bags import types
from robust_perception.bags.errors import BagError
from robust_perception.bags.writer import BagWriter
path, storage, limit, size, every = Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
STRING = "std_msgs/msg/String"
make = types.message_class(STRING)
said, number, flushed = "", 0, 0
with BagWriter(path, storage) as bag:
    try:
        while True:
            data = types.serialize(make(data=f"{number}".ljust(size)), STRING)
            bag.write("/a", STRING, data, number)
            number += 1
            if number % every == 0:
                bag.flush()
                flushed = number
    except BagError as error:
        said = str(error)
json.dump({"said": said, "written": number, "flushed": flushed}, sys.stdout)
"""
"""Writes until the system refuses, as it does on a full disk: no file may be larger than the limit."""


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize(("limit", "size", "every"), [(300_000, 1000, 10), (9_000_000, 900_000, 3)])
def test_a_full_disk_leaves_a_whole_bag(
    storage: str, limit: int, size: int, every: int, tmp_path: Path, repository: Path
) -> None:
    path = tmp_path / "bag"
    words = [str(path), storage, str(limit), str(size), str(every)]
    done = subprocess.run(
        [sys.executable, "-c", FULL, *words], capture_output=True, text=True, cwd=repository, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert str(path) in told["said"]
    assert "messages are in the bag" in told["said"]
    assert told["flushed"] >= every
    with BagReader(path) as bag:
        found = [message.data for message in bag.messages()]
        assert not bag.damage
    # What was flushed is there; where that left no room for the summary, all but its last chunks.
    assert told["flushed"] - 2 * every <= len(found) <= told["written"]
    assert found == [text(number, size) for number in range(len(found))]
    assert (path / "metadata.yaml").is_file()
    assert f"{len(found)} messages are in the bag" in told["said"]


def test_a_bag_that_has_failed_takes_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bag = BagWriter(tmp_path / "bag")
    bag.write("/a", STRING, text(1), 1)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.writev", full)
        with pytest.raises(BagError, match="No space left on device; 0 messages are in the bag"):
            bag.flush()
    with pytest.raises(BagError, match="whose writing has failed"):
        bag.write("/a", STRING, text(2), 2)
    bag.close()
