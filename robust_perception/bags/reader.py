"""Reads bags of this project and of `ros2 bag`: ordered raw messages, nothing decoded.

A bag is a folder with `metadata.yaml`, or a single `.mcap` or `.db3` file. One whose recorder was killed has
no metadata, and its last file no end: it is read as far as it goes, and `damage` says what is wrong with it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from rosbags.interfaces import Connection, QosDurability

from robust_perception.bags import view
from robust_perception.bags.errors import BagError
from robust_perception.bags.storages import LenientReader as Reader
from robust_perception.bags.storages import offered


class RawMessage(NamedTuple):
    """A recorded message: topic, type (`package/msg/Name`), CDR bytes, time of reception in ns."""

    topic: str
    msgtype: str
    data: bytes
    stamp_ns: int


@dataclass(frozen=True)
class Topic:
    """A topic of a bag.

    Attributes:
        name: beginning with `/`.
        msgtype: `package/msg/Name`.
        count: number of messages.
        latched: its publisher was TRANSIENT_LOCAL.
        definition: text of the type's definition as the bag carries it; empty when it carries none.
        type_hash: the type's hash (RIHS01), empty in old bags.
    """

    name: str
    msgtype: str
    count: int
    latched: bool
    definition: str
    type_hash: str


class BagReader:
    """An opened bag; use it as a context manager.

    Args:
        path: folder or storage file.

    Attributes:
        damage: what is wrong with it and how to mend it; empty = it is whole. All that `messages` gives was
            recorded so, but there may have been more.

    Raises:
        BagError: missing, not a bag, without messages, or so damaged that none of them can be read.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.damage = ""
        view.check(self.path)
        try:
            self._reader = self._open()
        except BagError:
            raise
        except Exception as error:
            raise _damaged(self.path, error) from None
        try:
            self._topics = _topics_of(self._reader)
        except Exception as error:
            self._reader.close()
            raise _damaged(self.path, error) from None
        if self._reader.message_count == 0:
            self._reader.close()
            msg = f"{self.path}: expected a bag with messages, got an empty one; record again"
            raise BagError(msg)

    def _open(self) -> Reader:
        # Parsers of damaged bytes raise whatever they run into, those of SQLite and zstd their own types.
        if view.is_settled(self.path) and not view.is_cut_off(self.path):
            try:
                reader = Reader(self.path)
                reader.open()
                _topics_of(reader)
                return reader
            except Exception as error:
                if _is_without_definition(error):
                    raise  # nothing is damaged
        seen = view.look(self.path)
        if seen.problems:
            found = f"one with {seen.messages} messages that can be read: {'; '.join(seen.problems)}"
            self.damage = f"{self.path}: expected a whole bag, got {found}; {seen.way_out}"
            warn_once(self.damage)
        mended: Any = seen if self.path.is_dir() else seen / seen.files[0].path.name
        reader = Reader(mended)
        reader.open()
        self._seen = seen  # a file that was decompressed goes with it
        return reader

    @property
    def topics(self) -> tuple[Topic, ...]:
        """The topics, by name."""
        return self._topics

    @property
    def message_count(self) -> int:
        """Messages on all topics."""
        return int(self._reader.message_count)

    @property
    def start_ns(self) -> int:
        """Stamp of the first message."""
        return int(self._reader.start_time)

    @property
    def end_ns(self) -> int:
        """Stamp of the last message."""
        return int(self._reader.end_time) - 1  # the library counts to one past it

    def messages(self, topics: Collection[str] = ()) -> Iterator[RawMessage]:
        """The messages by time of reception.

        Args:
            topics: only these; empty = all.

        Raises:
            BagError: a topic that is not there or has messages of several types (at the call), or a damaged
                file (on the way).
        """
        there = {connection.topic for connection in self._reader.connections}
        missing = sorted(set(topics) - there)
        if missing:
            msg = f"{self.path}: expected topics out of {sorted(there)}, got {missing}"
            raise BagError(msg)
        wanted = [c for c in self._reader.connections if not topics or c.topic in topics]
        for topic in sorted({c.topic for c in wanted}):
            kinds = sorted({c.msgtype for c in wanted if c.topic == topic})
            if len(kinds) > 1:
                msg = f"{self.path}: {topic}: expected messages of one type, got {' and '.join(kinds)}"
                raise BagError(msg)
        return self._read(wanted)

    def _read(self, connections: list[Connection]) -> Iterator[RawMessage]:
        done = 0
        try:
            for connection, stamp, data in self._reader.messages(connections):
                yield RawMessage(connection.topic, connection.msgtype, bytes(data), stamp)
                done += 1
        except Exception as error:
            raise _damaged(self.path, error, f" after {done} messages") from None

    def close(self) -> None:
        """Close the files."""
        self._reader.close()

    def __enter__(self) -> BagReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _topics_of(reader: Reader) -> tuple[Topic, ...]:
    found: dict[str, Topic] = {}
    for connection in reader.connections:
        latched = any(q.durability is QosDurability.TRANSIENT_LOCAL for q in offered(connection))
        before = found.get(connection.topic)
        found[connection.topic] = Topic(
            name=connection.topic,
            msgtype=connection.msgtype,
            count=connection.msgcount + (before.count if before else 0),
            latched=latched or (before is not None and before.latched),
            definition=connection.msgdef.data,
            type_hash=connection.digest,
        )
    return tuple(found[name] for name in sorted(found))


@lru_cache(maxsize=1000)
def warn_once(text: str) -> None:
    """Say what is wrong with a bag on the error stream, once, however often it is read."""
    logging.getLogger(__name__).warning(text)


def _is_without_definition(error: BaseException) -> bool:
    """Whether the library has met a type whose definition is of no language it knows."""
    return isinstance(error, KeyError) and error.args in (("",), ("unknown",))


def _damaged(path: Path, error: BaseException, where: str = "") -> BagError:
    if _is_without_definition(error):
        msg = f"{path}: expected a definition of every type, got a type whose definition the recorder missed"
        return BagError(f"{msg}; leave its topic out with `ros2 bag convert`")
    got = f"a damaged or truncated one{where}: {str(error) or repr(error)}"
    return BagError(
        f"{path}: expected a whole bag, got {got}; copy it again, or take from it what can be "
        "read by `robust-perception bag repair`"
    )
