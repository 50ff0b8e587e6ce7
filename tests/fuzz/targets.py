"""A bus at rest, which parts of it are damaged, and who reads them then."""

import os
import random
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

from bus import recovery
from bus.attachment import check_control
from bus.catalog import Catalog
from bus.check import check_directory
from bus.config import TopicConfig
from bus.control import Connection
from bus.directory import BusDirectory
from bus.dump import dump_segment
from bus.durable import list_segments
from bus.errors import BusError
from bus.group_admin import describe_unlocked
from bus.groups import Groups
from bus.identity import BUS_FILE
from bus.incidents import Incidents
from bus.liveness import client_rows
from bus.members import MemberTable
from bus.native.core import LAYOUT, Bells, Cursor, Partition
from bus.offsets import OffsetTable
from bus.replica import Follower
from bus.state import PartitionState, load_state, state_path, store_state
from tests.broker.hotlog import HotLog, drain
from tests.fuzz import damage
from tests.fuzz.damage import Victim
from tests.fuzz.share_readers import ShareReaders

_LINES = [
    b'{"op":"status","id":1,"args":{}}',
    b'{"op":"hello","id":2,"args":{"slot":0,"generation":1}}',
    b'{"op":"tend","id":0,"args":{"topic":1,"partition":0,"need":4096}}',
]
Damage = Callable[[Victim, random.Random], None]


class Targets:
    """All pairs of a damage and a reader."""

    def __init__(self, root: Path, chance: random.Random) -> None:
        self._chance = chance
        self._hot, self._shares = _make_bus(root)
        self.directory = self._hot.directory
        self._path = self.directory.path
        self._root = root
        hot = self._hot.hot.path
        topic = self._path / "topics" / "t"
        group_file = min(hot.glob("group-*.ctl"))
        self._group_id = int(group_file.stem.split("-")[1])
        self._durable = sorted((topic / "0").glob("*.log"))
        self._files = {
            "durable": [self._victim(path) for path in self._durable],
            "hot": [self._victim(path) for path in sorted(hot.glob("1-0.*.seg"))],
            "page": [self._victim(hot / "1-0.ctl")],
            "control": [self._victim(hot / "bus.ctl")],
            "members": [self._victim(group_file)],
            "offsets": [self._victim(one) for one in sorted((self._path / "groups").glob("g.*"))],
            "acks": [self._victim(self._shares.table)],
        }
        self._json = [
            (self._victim(path), damage.json_file(seal)) for path, seal in self._json_files()
        ]
        how = damage.json_file(self.directory.seal(self._shares.kept_as))
        self._kept = [(self._victim(path), how) for path in self._shares.kept]
        self._table = [
            ("recovery of a durable segment", "durable", damage.segment, self._recover),
            ("scan of a durable segment", "durable", damage.segment, self._scan),
            ("bus dump of a segment", "durable", damage.segment, self._dump),
            ("bus check, durable segment", "durable", damage.segment, self._check),
            ("bus check, hot segment", "hot", damage.segment, self._check),
            ("bus check, control page", "page", damage.table, self._check),
            ("bus check, offsets", "offsets", damage.offsets, self._check),
            ("a reader, hot segment", "hot", damage.segment, self._read),
            ("a reader, control page", "page", damage.table, self._read),
            ("a search by time", "hot", damage.segment, self._find_time),
            ("a replica, hot segment", "hot", damage.segment, self._replicate),
            ("a replica, control page", "page", damage.table, self._replicate),
            ("bus.ctl", "control", damage.table, self._read_control),
            ("members table", "members", damage.table, self._read_members),
            ("offsets file", "offsets", damage.offsets, self._read_offsets),
            ("ack table", "acks", damage.table, self._work),
        ]
        self._damaged: list[Victim] = []

    def _victim(self, path: Path) -> Victim:
        return Victim(path, self._chance)

    def _json_files(self) -> list[tuple[Path, str]]:
        names = ["runtime.json", "topics/t/topic.json", state_path("t", 0)]
        found = [(self._path / name, self.directory.seal(name)) for name in names]
        return [(path, seal) for path, seal in [*found, (self._path / BUS_FILE, BUS_FILE)]]

    def choose(self) -> tuple[str, Callable[[], None], Callable[[], object]]:
        """Name, damage, reader."""
        number = self._chance.randrange(len(self._table) + 4)
        if number == len(self._table):
            return "control socket", lambda: None, self._listen
        if number == len(self._table) + 1:
            return "acknowledgements", lambda: self._spoil_json(self._kept), self._read_kept
        if number > len(self._table):
            victims = self._chance.sample(self._json, self._chance.randrange(1, 3))
            return "JSON files", lambda: self._spoil_json(victims), self._read_json
        name, kind, how, read = self._table[number]
        victim = self._chance.choice(self._files[kind])
        return name, lambda: self._spoil(victim, how), read

    def _spoil(self, victim: Victim, how: Damage) -> None:
        self._damaged.append(victim)
        how(victim, self._chance)

    def _spoil_json(self, victims: list[tuple[Victim, Damage]]) -> None:
        for victim, how in victims:
            self._spoil(victim, how)

    def heal(self) -> None:
        for victim in self._damaged:
            victim.heal()
        self._damaged.clear()

    def keep(self, to: Path) -> None:
        """The damaged files, to look at."""
        to.mkdir(exist_ok=True)
        for victim in self._damaged:
            shutil.copy(victim.path, to)

    def close(self) -> None:
        self._hot.hot.remove()
        self.directory.close()

    # ------------------------------------------------------------------------------- readers

    def _recover(self) -> None:
        copy = self._root / "copy"
        shutil.copytree(self._durable[0].parent, copy)
        try:
            recovery.recover(copy, PartitionState(0, 1 << 20, None))
        finally:
            shutil.rmtree(copy)

    def _scan(self) -> None:
        fd = os.open(self._durable[0].parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for base in list_segments(fd):
                recovery.scan_tail(fd, base)
        finally:
            os.close(fd)

    def _dump(self) -> None:
        for path in self._durable:
            for _ in dump_segment(path, index=True, values=True, limit=500):
                continue

    def _check(self) -> None:
        check_directory(self._path)

    def _cursor(self) -> Cursor:
        offset = self._chance.choice([0, 0, 40, 70])
        return Cursor(self._attach(), "t", offset, check_crcs=self._chance.random() < 0.7)

    def _attach(self) -> Partition:
        return Partition(self._hot.hot.fd, 1, 0, Bells(self._hot.hot.control), 0)

    def _read(self) -> None:
        cursor = self._cursor()
        try:
            for _ in range(20):
                records = cursor.take(10)
                for record in records:
                    bytes(record.view()), record.key, record.headers, record.timestamp_ns
                if not records and not cursor.has_news():
                    break
            log = cursor.log
            log.ring(), log.readers(), log.counters, log.high_watermark, log.lost()
        finally:
            cursor.close()

    def _work(self) -> None:
        try:
            self._shares.work()
        finally:
            table = self._files["acks"][0]
            table.put(0, table.bytes)

    def _read_kept(self) -> None:
        self._shares.read_kept()

    def _find_time(self) -> None:
        cursor = self._cursor()
        try:
            cursor.find_time(self._chance.choice([0, 1, 1 << 62, -(1 << 62)]))
        finally:
            cursor.close()

    def _replicate(self) -> None:
        durable = self._root / "replicated"
        durable.mkdir(mode=0o700)
        try:
            self._follow(os.open(durable, os.O_RDONLY | os.O_DIRECTORY))
        finally:
            shutil.rmtree(durable)
            page = self._files["page"][0]  # it publishes there what it has copied
            page.put(0, page.bytes[: LAYOUT["sizeof.bus_partition"]])

    def _follow(self, fd: int) -> None:
        try:
            log = self._attach()
        except BusError:
            os.close(fd)
            raise
        follower = Follower(log, fd)
        try:
            follower.resume()
            for _ in range(50):
                if not follower.step():
                    break
        finally:
            follower.close()

    def _read_control(self) -> None:
        control = self._hot.hot.control
        check_control(control, self.directory, self._path)
        client_rows(control)
        Incidents(control).counts()
        bells = Bells(control)
        for slot in (0, 1, 1023):
            bells.name(slot)

    def _read_members(self) -> None:
        table = MemberTable.open(self._hot.hot.fd, self._group_id)
        table.owners.entries()
        table.owners.owned_by(1)
        describe_unlocked(table, "g")
        table.members()

    def _read_offsets(self) -> None:
        fd = self.directory.open_groups()
        try:
            offsets = OffsetTable.open(fd, "g", writable=False)
            try:
                offsets.read()
                offsets.get([(1, 0), (9, 9)])
            finally:
                offsets.close()
        finally:
            os.close(fd)

    def _read_json(self) -> None:
        with BusDirectory.open(self._path) as directory:
            directory.read_runtime()
            Catalog(directory).topics()
            load_state(directory, "t", 0)

    def _listen(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.setblocking(False)
            connection = Connection(ours, os.getpid())
            for _ in range(self._chance.randrange(1, 5)):
                line = bytearray(self._chance.choice(_LINES))
                for _ in range(self._chance.randrange(4)):
                    line[self._chance.randrange(len(line))] = self._chance.randrange(256)
                theirs.send(line + b"\n" * self._chance.randrange(2))
                for request in connection.receive():
                    connection.reply(request, {"args": request.args})
                if connection.closed:
                    break
            connection.close()


def _make_bus(root: Path) -> tuple[HotLog, ShareReaders]:
    with BusDirectory.create(root / "bus") as directory:
        Catalog(directory).create("t", 1, TopicConfig())
    hot = HotLog(root)
    hot.append(*(b"v" * (i * 37 % 1500) for i in range(60)))
    hot.roll()
    hot.append(*(b"w" * (i * 91 % 3000) for i in range(40)))
    follower = hot.follower()
    follower.resume()
    drain(follower)
    follower.close()
    store_state(hot.directory, "t", 0, PartitionState(0, 1 << 40, None))
    groups = Groups(hot.directory, hot.hot, Bells(hot.hot.control), Catalog(hot.directory))
    group = groups.ensure("g")
    with group.members.locked():
        commits = {(1, 0): (7, b"metadata"), (2, 3): (9, b"")}
        group.offsets.put(commits, generation=1, timestamp_ns=1)
        group.members.owners.set_targets({0: [(1, 0)], 3: [(1, 1)]})
    hot.hot.take_over(hot.directory, 1, autostarted=False)
    return hot, ShareReaders(hot, groups)
