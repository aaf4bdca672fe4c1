"""What goes into a bag comes out of it, and what is no bag is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robust_perception.bags import types
from robust_perception.bags.dataset import image
from robust_perception.bags.errors import BagError, MessageTypeError
from robust_perception.bags.reader import BagReader, RawMessage
from robust_perception.bags.writer import STORAGES, BagWriter

PIXELS = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


def write(path: Path, storage: str = "mcap", count: int = 5, compression: str = "none") -> list[RawMessage]:
    """A bag with a picture every 0.1 s and a latched AudioInfo; what is in it, in order."""
    written = []
    with BagWriter(path, storage, compression) as bag:
        bag.add_topic("/audio_info", types.AUDIO_INFO, latched=True)
        for index in range(count):
            stamp = 1_000_000_000 + index * 100_000_000
            data = image(PIXELS, "rgb8", stamp, "camera")
            bag.write("/rgb/image", types.IMAGE, data, stamp)
            written.append(RawMessage("/rgb/image", types.IMAGE, data, stamp))
    return written


def storage_file(path: Path) -> Path:
    """The file of a bag that holds its messages."""
    return next(p for p in path.iterdir() if p.suffix in (".mcap", ".db3"))


@pytest.mark.parametrize("storage", STORAGES)
def test_bytes_come_back_as_they_were(storage: str, tmp_path: Path) -> None:
    written = write(tmp_path / "bag", storage)
    with BagReader(tmp_path / "bag") as bag:
        assert list(bag.messages()) == written
        assert (bag.start_ns, bag.end_ns) == (written[0].stamp_ns, written[-1].stamp_ns)
        assert bag.message_count == len(written)


@pytest.mark.parametrize(
    ("storage", "compression"), [(name, way) for name, ways in STORAGES.items() for way in ways[1:]]
)
def test_a_compressed_bag_says_the_same(storage: str, compression: str, tmp_path: Path) -> None:
    written = write(tmp_path / "bag", storage, 200, compression)
    plain = write(tmp_path / "plain", storage, 200)
    with BagReader(tmp_path / "bag") as bag:
        assert list(bag.messages()) == written == plain
    size, without = (sum(f.stat().st_size for f in (tmp_path / n).iterdir()) for n in ("bag", "plain"))
    assert size < without or compression == "message", "these messages are small, and stand alone there"


def test_a_compression_that_a_storage_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(BagError, match="a compression of sqlite3 out of none, message, file, got 'lz4'"):
        BagWriter(tmp_path / "other", "sqlite3", "lz4")


@pytest.mark.parametrize("storage", STORAGES)
def test_topics_tell_type_count_and_whether_they_are_latched(storage: str, tmp_path: Path) -> None:
    write(tmp_path / "bag", storage)
    with BagReader(tmp_path / "bag") as bag:
        topics = {topic.name: topic for topic in bag.topics}
    assert topics["/rgb/image"].msgtype == types.IMAGE
    assert topics["/rgb/image"].count == 5
    assert not topics["/rgb/image"].latched
    assert topics["/audio_info"].latched
    assert "uint32 height" in topics["/rgb/image"].definition


@settings(max_examples=25)
@given(stamps=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 10**12)), min_size=1, max_size=20))
def test_messages_come_by_time_of_reception(
    stamps: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("order") / "bag"
    data = types.serialize(types.message_class("std_msgs/msg/String")(data="x"), "std_msgs/msg/String")
    with BagWriter(path) as bag:
        for name, stamp in stamps:
            bag.write(f"/{name}", "std_msgs/msg/String", data, stamp)
    with BagReader(path) as bag:
        read = [(message.topic[1:], message.stamp_ns) for message in bag.messages()]
        only = [message.stamp_ns for message in bag.messages([f"/{stamps[0][0]}"])]
    assert sorted(read) == sorted(stamps)
    assert [stamp for _, stamp in read] == sorted(stamp for _, stamp in stamps)
    assert only == sorted(stamp for name, stamp in stamps if name == stamps[0][0])


def test_an_independent_reader_understands_the_file(tmp_path: Path) -> None:
    decoder = pytest.importorskip("mcap_ros2.decoder")
    reader = pytest.importorskip("mcap.reader")
    write(tmp_path / "bag")
    with next((tmp_path / "bag").glob("*.mcap")).open("rb") as file:
        found = list(
            reader.make_reader(file, decoder_factories=[decoder.DecoderFactory()]).iter_decoded_messages()
        )
    assert len(found) == 5
    message = found[0].decoded_message
    assert (message.encoding, message.height, message.width) == ("rgb8", 4, 4)
    assert bytes(message.data) == PIXELS.tobytes()


def test_what_is_no_bag_is_named(tmp_path: Path) -> None:
    with pytest.raises(BagError, match=r"none: expected a bag .* got nothing"):
        BagReader(tmp_path / "none")
    (tmp_path / "text.txt").write_text("hello")
    with pytest.raises(BagError, match=r"got a file '\.txt'"):
        BagReader(tmp_path / "text.txt")
    (tmp_path / "folder").mkdir()
    with pytest.raises(BagError, match="got a folder with neither"):
        BagReader(tmp_path / "folder")


def test_an_empty_bag_is_named(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        bag.add_topic("/rgb/image", types.IMAGE)
    with pytest.raises(BagError, match="expected a bag with messages, got an empty one"):
        BagReader(tmp_path / "bag")


@pytest.mark.parametrize(
    ("storage", "compression"), [("mcap", "none"), ("mcap", "zstd"), ("sqlite3", "none")]
)
@settings(max_examples=40)
@given(where=st.floats(0, 1), junk=st.binary(min_size=1, max_size=400), cut=st.booleans())
def test_damage_of_any_kind_is_a_bag_error_or_goes_unnoticed(
    storage: str,
    compression: str,
    where: float,
    junk: bytes,
    cut: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """A pixel or a time may have changed: nothing in a bag says so. What does not parse is named."""
    path = tmp_path_factory.mktemp("damage") / "bag"
    write(path, storage, 20, compression)
    file = storage_file(path)
    whole = file.read_bytes()
    at = int(where * len(whole))
    file.write_bytes(whole[:at] + junk + (b"" if cut else whole[at + len(junk) :]))
    try:
        with BagReader(path) as bag:
            list(bag.messages())
    except BagError as error:
        assert str(path) in str(error)


def test_a_message_longer_than_its_file_is_named(tmp_path: Path) -> None:
    first = write(tmp_path / "bag")[0]
    file = storage_file(tmp_path / "bag")
    whole = file.read_bytes()
    at = whole.index(first.data) - 22  # channel, sequence number and two times stand before the data
    file.write_bytes(whole[: at - 8] + b"\xff" * 8 + whole[at:])
    with BagReader(tmp_path / "bag") as bag, pytest.raises(BagError, match="truncated one after 0 messages"):
        list(bag.messages())


def test_metadata_that_make_no_sense_are_named(tmp_path: Path) -> None:
    write(tmp_path / "bag")
    metadata = tmp_path / "bag" / "metadata.yaml"
    text = metadata.read_text()
    assert "message_count: 5" in text
    for nonsense in (text.replace("message_count: 5", "message_count: five"), "{", "", "- 1", "\0"):
        metadata.write_text(nonsense)
        with BagReader(tmp_path / "bag") as bag:
            assert bag.message_count == 5, "the files know it better"


def test_wrong_use_of_the_writer_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "bag")
    with pytest.raises(BagError, match="expected a new path, got one that exists"):
        BagWriter(tmp_path / "bag")
    with pytest.raises(BagError, match="expected a storage out of mcap, sqlite3, got 'tar'"):
        BagWriter(tmp_path / "new", "tar")
    with BagWriter(tmp_path / "new") as bag:
        with pytest.raises(BagError, match="beginning with '/'"):
            bag.add_topic("rgb", types.IMAGE)
        with pytest.raises(MessageTypeError, match="got an unknown one"):
            bag.add_topic("/x", "nobody_msgs/msg/Nothing")
        bag.add_topic("/rgb/image", types.IMAGE)
        with pytest.raises(BagError, match="a topic has one type"):
            bag.write("/rgb/image", types.AUDIO, b"", 0)
        with pytest.raises(BagError, match="expected a stamp >= 0"):
            bag.write("/rgb/image", types.IMAGE, image(PIXELS, "rgb8", 1, "c"), -1)


def test_a_topic_that_is_not_there_is_named(tmp_path: Path) -> None:
    write(tmp_path / "bag")
    with BagReader(tmp_path / "bag") as bag, pytest.raises(BagError, match=r"got \['/nothing'\]"):
        bag.messages(["/nothing"])


def test_bytes_that_are_no_message_are_named() -> None:
    with pytest.raises(BagError, match="expected the CDR bytes of a sensor_msgs/msg/Image, got 3 bytes"):
        types.deserialize(b"abc", types.IMAGE)
