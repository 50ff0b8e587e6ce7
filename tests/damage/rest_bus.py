"""A bus at rest, known record by record: built once, put back before every trial."""

import os
import shutil
import signal
import stat
from dataclasses import dataclass, field
from pathlib import Path

import bus
from bus.broker import Broker
from bus.directory import BusDirectory
from bus.errors import CorruptSegmentError
from bus.offset_copies import read_copy
from bus.state import load_state
from bus.structs import TopicPartition
from tests.broker.rig import is_alive, kill, kill_broker, status
from tests.damage import rest_share
from tests.waiting import eventually

#: How it came to rest: stopped; everything killed; the same, and then the machine restarted.
STOPPED, KILLED, REBOOTED = "stopped", "killed", "rebooted"
HOW = (STOPPED, KILLED, REBOOTED)
#: A value that takes 1/25 of a segment.
LARGE = 40_000
BIG, SMALL, OTHER = TopicPartition("t", 0), TopicPartition("t", 1), TopicPartition("other", 0)
COMMITS = {("g", BIG): 30, ("g", SMALL): 2, ("h", OTHER): 3}


def value_of(partition: TopicPartition, offset: int) -> bytes:
    """What the record there holds, which is like no other."""
    text = b"%s-%d@%d." % (partition.topic.encode(), partition.partition, offset)
    return text * (LARGE // len(text)) if partition == BIG else text


@dataclass
class RestingBus:
    """A bus directory without a process, and what was promised of it."""

    path: Path
    how: str
    bus_id: str = ""
    hot: Path | None = None
    #: the number of records acknowledged in each partition
    ends: dict[TopicPartition, int] = field(default_factory=dict)
    #: ids that must never come again
    ids: set[int] = field(default_factory=set)
    _files: dict[Path, tuple[int, bytes]] = field(default_factory=dict)

    @classmethod
    def build(cls, path: Path, how: str) -> "RestingBus":
        """Make the bus, use it, and end it in that way."""
        made = cls(path, how)
        try:
            made._make()
        except BaseException:
            end_processes(path)
            made.clear()
            raise
        return made

    def _make(self) -> None:
        broker = Broker(self.path).start()
        with BusDirectory.open(self.path) as directory:
            self.bus_id = directory.bus_id_hex
        with bus.Admin(self.path) as admin:
            admin.create_topics([bus.NewTopic("gone", 1)])
            self.ids.add(self._id("gone"))
            admin.delete_topics(["gone"])
            settings = {"segment.bytes": str(1 << 20), "hot.bytes": str(4 << 20)}
            admin.create_topics([bus.NewTopic("t", 2, topic_configs=settings)])
            admin.create_topics([bus.NewTopic("other", 1)])
        self.ids |= {self._id("t"), self._id("other")}
        producer = bus.Producer(self.path)
        self._send(producer, BIG, 70)
        self._send(producer, SMALL, 6)
        self._send(producer, OTHER, 6)
        self._commit()
        rest_share.work(self.path, self.ends[OTHER])
        producer.close()
        self._end(broker)
        self._remember()

    def _id(self, topic: str) -> int:
        with BusDirectory.open(self.path) as directory:
            content = directory.read_truth(f"topics/{topic}/topic.json")
        assert content is not None
        return int(content["id"])

    def _send(
        self, producer: bus.Producer, partition: TopicPartition, count: int, wait: bool = True
    ) -> None:
        first = self.ends.get(partition, 0)
        futures = [
            producer.send(
                partition.topic, value_of(partition, offset), partition=partition.partition
            )
            for offset in range(first, first + count)
        ]
        if wait:
            assert [future.get(timeout=20).offset for future in futures][-1] == first + count - 1
        self.ends[partition] = first + count

    def _commit(self) -> None:
        for group in ("g", "h"):
            with bus.Consumer(
                bootstrap_servers=self.path, group_id=group, enable_auto_commit=False
            ) as consumer:
                mine = {tp: offset for (name, tp), offset in COMMITS.items() if name == group}
                consumer.assign(list(mine))
                consumer.commit({tp: bus.OffsetAndMetadata(at, "") for tp, at in mine.items()})
        eventually(lambda: all(self._is_copied(group) for group in ("g", "h")), what="copies")
        eventually(lambda: all(map(self._is_noted, self.ends)), what="how far it is durable")

    def _is_noted(self, partition: TopicPartition) -> bool:
        """Of its newest file, too: one that nothing tells of is not missed."""
        with BusDirectory.open(self.path) as directory:
            state = load_state(directory, *partition)
            files = directory.partition_path(*partition).glob("*.log")
            newest = max((int(file.stem) for file in files), default=0)
        end = None if state is None else state.durable_end
        return end is not None and end.offset > newest

    def _is_copied(self, group: str) -> bool:
        with BusDirectory.open(self.path) as directory:
            groups_fd = directory.open_groups()
            try:
                found = read_copy(directory, groups_fd, f"{group}.offsets")
            except CorruptSegmentError:
                return False
            finally:
                os.close(groups_fd)
        return found is not None and len(found.commits) == sum(g == group for g, _ in COMMITS)

    def _end(self, broker: Broker) -> None:
        self.hot = Path(status(self.path)["hot_dir"])
        pids = [row["pid"] for row in status(self.path)["replicas"]]
        if self.how == STOPPED:
            broker.stop()
            self.hot = None
            return
        relaxed = bus.Producer(self.path, acks=1, autostart=False)
        assert relaxed.partitions_for("t") and relaxed.partitions_for("other")
        kill_broker(broker)
        for pid in pids:
            kill(pid)
        if self.how == KILLED:  # then RAM has what the disk has not
            self._send(relaxed, SMALL, 4, wait=False)
            self._send(relaxed, OTHER, 4, wait=False)
        relaxed.close()
        broker.stop()
        if self.how == REBOOTED:
            shutil.rmtree(self.hot)

    def _remember(self) -> None:
        for root in filter(None, (self.path, self.hot)):
            for file in [one for one in root.rglob("*") if one.is_file()]:
                self._files[file] = (stat.S_IMODE(file.stat().st_mode), file.read_bytes())

    def put_back(self) -> None:
        """Everything as it was, in the same directory: its inode says whose hot log it is."""
        self.clear()
        for file, (mode, data) in self._files.items():
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file.write_bytes(data)
            file.chmod(mode)

    def clear(self) -> None:
        """Remove all that a trial left: files, hot directories, doorbells."""
        for entry in self.path.iterdir():
            _remove(entry)
        for entry in Path("/dev/shm").iterdir():
            if self.bus_id and self.bus_id in entry.name:
                _remove(entry)

    def files(self) -> list[str]:
        """Every file, relative to the bus directory; those of the hot directory begin with hot:."""
        return sorted(self._name(file) for file in self._files)

    def _name(self, file: Path) -> str:
        if self.hot is not None and file.is_relative_to(self.hot):
            return f"hot:{file.relative_to(self.hot)}"
        return str(file.relative_to(self.path))

    def file(self, name: str) -> Path:
        """The path of a file by its name here."""
        if name.startswith("hot:"):
            assert self.hot is not None
            return self.hot / name.removeprefix("hot:")
        return self.path / name


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink()


def end_processes(path: Path) -> None:
    """Ends what a trial left running, which is no failure of its own."""
    from tests.buses import bus_processes

    for process in bus_processes(path):
        process.send_signal(signal.SIGKILL)
        eventually(lambda pid=process.pid: not is_alive(pid), what="its end")  # type: ignore[misc]
