"""A whole bus directory, running or stopped: read-only, without a broker, without a lock.

Order matters while the bus runs. Groups are read first, then the watermarks and tails, then the
durable files: offsets were committed before the log ended where it ends now, and a record was on
disk before the watermark passed it. So each thing is compared with one that was read later.
"""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

from bus.address import Address, resolve_address
from bus.check.acks import check_acks
from bus.check.committed import GroupOffsets, check_offsets, check_reach
from bus.check.copies import check_copies, check_limit
from bus.check.damage import Damage, Findings
from bus.check.group_copies import check_offset_copies
from bus.check.hot import HotPartition, check_ring, read_hot
from bus.check.partition import check_partition
from bus.check.segment import Expected, SegmentFacts
from bus.check.topics import CheckedTopic, read_topics
from bus.check.truth import check_counters
from bus.check.volatile import check_ack_tables, check_control, check_members
from bus.directory import BusDirectory, boot_id
from bus.errors import BusError, CorruptSegmentError

Progress = Callable[[int], None]


def check_directory(path: Address, *, progress: Progress | None = None) -> list[Damage]:
    """Every damage in the bus directory `path`, none for a healthy bus.

    Verifies each frame, index entry and header of the hot and durable segments, the chain of
    segments, both copies against each other, the watermarks, `state.json`, and the offset tables.
    `progress` is called with the number of bytes done, now and then.

    Raises DirectoryError (or a subclass) if there is no bus in that directory or it cannot be
    read, UnsupportedVersionError if another version wrote it: nothing can be said then.
    """
    try:
        with BusDirectory.open(path) as directory:
            return _Check(directory, progress or _ignore).run()
    except CorruptSegmentError as error:
        return [Damage(str(resolve_address(path) / "bus.json"), 0, str(error))]


def bytes_to_check(path: Address) -> int:
    """About how many bytes `check_directory` will report to `progress`: the durable segments."""
    root = resolve_address(path) / "topics"
    return sum(file.stat().st_size for file in root.glob("*/*/*.log"))


def _ignore(_: int) -> None:
    """No progress is shown."""


class _Check:
    """One run over one directory."""

    def __init__(self, directory: BusDirectory, progress: Progress) -> None:
        self.directory = directory
        self.progress = progress
        self.findings = Findings(".")
        self.hot_path = self._usable_hot_path()
        #: log ends that are certain, by (topic id, partition)
        self.ends: dict[tuple[int, int], int] = {}

    def run(self) -> list[Damage]:
        groups = self._read_groups()
        self._check_tables(groups)
        check_counters(self.directory, self.findings)
        for topic in read_topics(self.directory, self.findings):
            for partition in range(topic.partitions):
                self._check_partition(topic, partition)
        check_reach(groups, self.ends, self.findings)
        return self.findings.damages

    def _check_tables(self, groups: list[GroupOffsets]) -> None:
        runtime = self.directory.read_runtime()
        # A broker that starts or stops right now may have changed both since the path was taken.
        if self.hot_path is None or runtime is None or Path(runtime.hot_dir) != self.hot_path:
            return
        bus_id = self.directory.bus_id
        check_control(self.hot_path / "bus.ctl", bus_id, runtime.hot_id, self.findings)
        check_members(self.hot_path, groups, bus_id, self.findings)
        check_ack_tables(self.hot_path, groups, bus_id, self.findings)

    def _usable_hot_path(self) -> Path | None:
        """The hot directory of this boot; what an earlier boot left there means nothing."""
        runtime = self.directory.read_runtime()
        if runtime is None or runtime.boot_id != boot_id():
            return None
        path = Path(runtime.hot_dir)
        return path if (path / "bus.ctl").exists() else None

    def _read_groups(self) -> list[GroupOffsets]:
        root = self.directory.groups_path
        groups = []
        for path in sorted(root.glob("*.offsets")):
            name = unquote(path.name.removesuffix(".offsets"))
            findings = self.findings.inside(f"groups/{path.name}")
            try:
                group = check_offsets(path, name, self.directory.bus_id, findings)
            except FileNotFoundError:  # deleted since it was listed
                continue
            if group:
                groups.append(group)
        check_offset_copies(self.directory, groups, self.findings)
        check_acks(self.directory, groups, self.findings)
        return groups

    def _check_partition(self, topic: CheckedTopic, partition: int) -> None:
        expected = Expected(
            self.directory.bus_id,
            topic.id,
            partition,
            dense=topic.dense,
            bare_values=not topic.replicated,
        )
        hot = self._read_hot(topic, partition, expected)
        if hot:
            self.ends[topic.id, partition] = hot.log_end_offset
        if topic.replicated:
            self._check_durable(topic, partition, expected, hot)
        elif hot:
            self._check_hot(hot, expected)

    def _read_hot(
        self, topic: CheckedTopic, partition: int, expected: Expected
    ) -> HotPartition | None:
        if self.hot_path is None:
            return None
        path = self.hot_path / f"{topic.id}-{partition}.ctl"
        try:
            return read_hot(path, expected, self.findings.inside(str(path)))
        except FileNotFoundError:  # just made, just deleted, or being recovered
            return None
        except (BusError, OSError) as error:
            self.findings.inside(str(path)).add(0, str(error))
            return None

    def _check_hot(self, hot: HotPartition, expected: Expected) -> dict[int, SegmentFacts]:
        return check_ring(hot, expected, self.findings.inside(str(hot.path)), self.progress)

    def _check_durable(
        self,
        topic: CheckedTopic,
        partition: int,
        expected: Expected,
        hot: HotPartition | None,
    ) -> None:
        where = self.findings.inside(f"topics/{topic.name}/{partition}")
        path = topic.path / str(partition)
        if not path.is_dir():  # deleted meanwhile, or made and never opened
            if hot and topic.path.is_dir():
                where.add(0, "the partition's directory is missing")
            return
        watermark = hot.durable_end() if hot else None
        durable = check_partition(self.directory, path, expected, watermark, where, self.progress)
        if hot:
            check_limit(hot, durable, where.inside(str(hot.path)))
            check_copies(hot, self._check_hot(hot, expected), durable, where)
        elif durable.state and durable.state.clean_end:
            self.ends[topic.id, partition] = durable.state.clean_end[0]
