"""Producers and consumers with diaries, and a hail of kills on everything around one topic."""

import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import bus
from bus.autostart import environment
from bus.directory import BusDirectory
from tests.faults.processes import BROKER, CONSUMER, PRODUCER, REPLICA, kill, processes
from tests.faults.sender import PARTITIONS

TOPIC = "storm"
GROUPS = ("first", "first", "second")
ACKS = ("1", "1", "all", "all")
EVERYTHING = "everything"
#: Segments of 1 MiB in a ring of four: rolls, spares and recycling all the time.
CONFIGS = {"segment.bytes": 1 << 20, "hot.bytes": 4 << 20}
#: Seconds between two kills: from one store to the next, up to a broker's whole start.
_PAUSE_S = (0.0, 0.6)
#: Nobody need have got anywhere for the next kill to come after so many seconds.
_STANDSTILL_S = 5.0
_ROLES = (BROKER, REPLICA, PRODUCER, CONSUMER)
#: Share of kills that hit all processes at once.
_EVERYTHING_SHARE = 0.12
_LOOK_S = 0.01


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A line of a sender's diary."""

    seed: int
    acks: str
    partition: int
    offset: int
    sequence: int


@dataclass(eq=False)
class Client:
    """A sender or a reader that is started again, with another diary, whenever it dies."""

    module: str
    arguments: list[str]
    process: "subprocess.Popen[bytes]"
    diary: Path


class Storm:
    """A context manager: everything that it started is dead at the end."""

    def __init__(self, path: Path, diaries: Path, seed: int) -> None:
        self.kills: Counter[str] = Counter()
        self._path = path
        self._diaries = diaries
        self._dice = random.Random(seed)
        self._born = 0
        self._clients: list[Client] = []

    def __enter__(self) -> "Storm":
        self._diaries.mkdir()
        with bus.Admin(self._path) as admin:
            admin.create_topics([bus.NewTopic(TOPIC, PARTITIONS, topic_configs=CONFIGS)])
        self._clients = [self._sender(acks) for acks in ACKS]
        self._clients += [self._reader(group) for group in GROUPS]
        return self

    def __exit__(self, *_: object) -> None:
        self.kill_everything()
        for client in self._clients:
            client.process.kill()
            client.process.wait()

    # ------------------------------------------------------------------------------- clients

    def _spawn(self, module: str, arguments: list[str], diary: Path) -> Client:
        command = [sys.executable, "-P", "-m", module, str(self._path), TOPIC, *arguments]
        with diary.with_suffix(".err").open("wb") as errors:
            process = subprocess.Popen(
                [*command, str(diary)], stdin=subprocess.DEVNULL, stderr=errors, env=environment()
            )
        return Client(module, arguments, process, diary)

    def _sender(self, acks: str) -> Client:
        self._born += 1
        diary = self._diaries / f"sent-{acks}-{self._born}"
        return self._spawn("tests.faults.sender", [acks, str(self._born)], diary)

    def _reader(self, group: str) -> Client:
        self._born += 1
        return self._spawn(
            "tests.faults.reader", [group], self._diaries / f"read-{group}-{self._born}"
        )

    def _revive(self) -> None:
        """Starts again whom we have killed. Nobody may have ended otherwise."""
        for index, client in enumerate(self._clients):
            code = client.process.poll()
            if code is None:
                continue
            errors = client.diary.with_suffix(".err").read_text(errors="replace")
            assert code == -9, f"{client.module} {client.arguments} ended with {code}: {errors}"
            again = self._sender if client.module.endswith("sender") else self._reader
            self._clients[index] = again(client.arguments[0])

    # ---------------------------------------------------------------------------------- kills

    def rage(self, kills: int, records: int, deadline_s: float) -> None:
        """Kills at random until so many more were killed, sent and read by each group."""
        deadline = time.monotonic() + deadline_s
        kills += self.kills.total()
        records += self._progress()
        while not (self.kills.total() >= kills and self._progress() >= records):
            assert time.monotonic() < deadline, f"{self.kills}, {self._progress()} of {records}"
            self._strike()
            self._revive()
            self._pause()

    def _progress(self) -> int:
        """Records acknowledged, or those that the slower group was given if they are fewer."""
        return min(len(self.acknowledged()), *(len(self.delivered(group)) for group in GROUPS))

    def _pause(self) -> None:
        """Some time, then until something was sent or read: a loaded machine is not kept down."""
        written = self._written()
        now = time.monotonic()
        until, limit = now + self._dice.uniform(*_PAUSE_S), now + _STANDSTILL_S
        while now < until or (self._written() == written and now < limit):
            self._revive()
            time.sleep(_LOOK_S)
            now = time.monotonic()

    def _written(self) -> int:
        """Bytes in all diaries."""
        return sum(diary.stat().st_size for diary in self._diaries.iterdir())

    def _strike(self) -> None:
        if self._dice.random() < _EVERYTHING_SHARE:
            self.kill_everything()
            return
        role = self._dice.choice(_ROLES)
        targets = [process for found, process in processes(self._path) if found == role]
        if targets:
            self.kills[role] += len(kill([self._dice.choice(targets)]))

    def kill_everything(self) -> None:
        """All at once; again, if one had just been started by another."""
        self.kills[EVERYTHING] += 1
        while targets := [process for _, process in processes(self._path)]:
            kill(targets)

    def reboot(self) -> None:
        """Everything dies, and what was in memory is gone: what a power cut leaves, and no more."""
        self.kill_everything()
        with BusDirectory.open(self._path) as directory:
            shutil.rmtree(directory.default_hot_path())

    # -------------------------------------------------------------------------------- diaries

    def acknowledged(self) -> list[Acknowledged]:
        """Every record that a sender was told to be safe."""
        found = []
        for diary in self._diaries.glob("sent-*-*"):
            if diary.suffix != ".err":
                _, acks, seed = diary.name.split("-")
                rows = (map(int, line.split()) for line in _lines(diary))
                found += [Acknowledged(int(seed), acks, *row) for row in rows]
        return found

    def delivered(self, group: str) -> dict[tuple[int, int], set[bytes]]:
        """The digests of what a group was given, by partition and offset."""
        found: dict[tuple[int, int], set[bytes]] = {}
        for diary in self._diaries.glob(f"read-{group}-*"):
            if diary.suffix != ".err":
                for line in _lines(diary):
                    partition, offset, digest = line.split()
                    place = (int(partition), int(offset))
                    found.setdefault(place, set()).add(bytes.fromhex(digest))
        return found


def _lines(diary: Path) -> list[str]:
    """The whole lines: a kill may have cut the last one."""
    return diary.read_text().split("\n")[:-1]
