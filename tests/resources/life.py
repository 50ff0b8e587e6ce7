"""A program's life with a bus on a place that is too small, and again when it is not any more."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import bus
from bus.errors import BusError, BusTimeoutError, NoSpaceError
from tests.buses import end_bus
from tests.faults.witness import read_all

CHUNK_BYTES = 200 << 10
#: errors that say that there is no room, or for what the room was awaited in vain
NO_ROOM = (NoSpaceError, BusTimeoutError)


@dataclass
class Life:
    """What was acknowledged, and which errors came instead."""

    path: Path
    hot: Path | None = None
    acknowledged: dict[tuple[str, int], bytes] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def live(self, records: int = 8) -> None:
        """Broker, topic, records, a group's commit, a stop; each as far as there is room."""
        try:
            with bus.Broker(self.path, hot_dir=self.hot):
                self._send(records)
                self._commit()
        except NO_ROOM as error:
            self.errors.append(str(error))

    def _send(self, records: int) -> None:
        with bus.Producer(self.path, acks=1, max_block_ms=150, autostart=False) as producer:
            for number in range(records):
                value = b"%d" % number + os.urandom(CHUNK_BYTES)
                try:
                    offset = producer.send("t", value).get(timeout=1).offset
                except NO_ROOM as error:
                    self.errors.append(str(error))
                    return
                self.acknowledged["t", offset] = value

    def _commit(self) -> None:
        try:
            with bus.Consumer(
                bootstrap_servers=self.path, group_id="g", auto_offset_reset="earliest"
            ) as consumer:
                partition = bus.TopicPartition("t", 0)
                consumer.assign([partition])
                consumer.commit({partition: bus.OffsetAndMetadata(0)})
        except NO_ROOM as error:
            self.errors.append(str(error))
        except BusError as error:
            if self.acknowledged:  # else there is no such topic
                raise
            self.errors.append(str(error))

    def check_again(self) -> None:
        """There is room: all that was acknowledged is there, and everything can be done."""
        with (
            bus.Broker(self.path, hot_dir=self.hot),
            bus.Producer(self.path, autostart=False) as producer,
        ):
            last = producer.send("t", b"last").get(timeout=20)
            log = {one.offset: one.value for one in read_all(self.path, ["t"])["t", 0]}
            assert log[last.offset] == b"last"
            for (_, offset), value in self.acknowledged.items():
                assert log.get(offset) == value, (
                    f"offset {offset} was acknowledged and is not there"
                )
            self._commit()
        wrong = end_bus(self.path)
        assert not wrong, "\n".join(wrong)


@contextmanager
def only(free_bytes: int, place: Path) -> Iterator[None]:
    """Leaves so many bytes on the filesystem of `place` until the block ends."""
    status = os.statvfs(place)
    taken = status.f_bavail * status.f_frsize - free_bytes
    ballast = place / "ballast"
    with ballast.open("wb") as file:
        if taken > 0:
            os.posix_fallocate(file.fileno(), 0, taken)
    try:
        yield
    finally:
        ballast.unlink()
