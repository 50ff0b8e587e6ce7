"""A topic with a limit of lag, those who fill it, and an oracle that knows the commits."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import bus
from bus.admin import Admin
from bus.catalog import Catalog
from bus.directory import BusDirectory
from bus.errors import BackpressureError, GroupIdNotFoundError
from bus.offsets import OffsetTable
from bus.structs import OffsetAndMetadata, TopicPartition
from tests.broker.rig import create_topic
from tests.waiting import eventually

T0 = TopicPartition("t", 0)
#: the bytes of the frame of a record with this value and no key
VALUE = b"x" * 40
FRAME_BYTES = 88


def limited_topic(path: Path, *, groups: str = "g", partitions: int = 1, **configs: object) -> None:
    """Topic "t", in memory unless told otherwise."""
    create_topic(
        path, "t", partitions, **{"durability": "memory", "max_lag_groups": groups, **configs}
    )


@contextmanager
def reader(path: Path, group: str = "g", **options: object) -> Iterator[bus.Consumer]:
    """A member of the group that has its partitions; nothing is committed but on demand."""
    given = {"auto_offset_reset": "earliest", "enable_auto_commit": False, **options}
    with bus.Consumer("t", bootstrap_servers=path, group_id=group, **given) as consumer:
        consumer.position(T0)  # which joins
        yield consumer


def sender(path: Path, max_block_ms: int = 0) -> bus.Producer:
    return bus.Producer(path, acks=1, max_block_ms=max_block_ms)


def fill(producer: bus.Producer, value: bytes = VALUE, partition: int = 0, most: int = 5000) -> int:
    """Sends until consumers are in the way; how many records were taken.

    The ring may want a file first, or the replica: then it is tried again.
    """
    for count in range(most):
        if eventually(lambda: send(producer, value, partition)) == "held up":
            return count
    raise AssertionError(f"{most} records were taken, and nobody said stop")


def send(producer: bus.Producer, value: bytes, partition: int) -> str:
    """What became of a record: "taken", "held up", or "" if it waits for something else."""
    try:
        producer.send("t", value, partition=partition)
    except BackpressureError as error:
        return "held up" if "held back by its consumers" in str(error) else ""
    return "taken"


def commit(consumer: bus.Consumer, offset: int, partition: int = 0) -> None:
    consumer.commit({TopicPartition("t", partition): OffsetAndMetadata(offset)})


def committed(path: Path, group: str = "g") -> int:
    """What the group's file says for t-0, read as anybody may; 0 without a commit."""
    with BusDirectory.open(path) as directory:
        topic_id = Catalog(directory).get("t").id
        with suppress(GroupIdNotFoundError):
            found = {}
            with closing(OffsetTable.open_path(directory.offsets_path(group))) as table:
                found = table.read()
            entry = found.get((topic_id, 0))
            return entry.offset if entry else 0
    return 0


def alter(path: Path, **configs: object) -> None:
    with Admin(path) as admin:
        admin.alter_configs({"t": {key.replace("_", "."): value for key, value in configs.items()}})


class Blocked(threading.Thread):
    """Sends one record, or several at once, in a thread; `error` is what it raised."""

    def __init__(self, producer: bus.Producer, count: int = 1) -> None:
        super().__init__()
        self._producer = producer
        self._count = count
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._producer.send_many("t", [VALUE] * self._count)
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.error = error

    def ends(self, within_s: float = 20.0) -> bool:
        self.join(within_s)
        return not self.is_alive()
