"""A storm over a share group: members and brokers die all the time, and every word is written down.

Each member appends a line to one journal before it begins with a record and after its
acknowledgement returned; who kills it does so before. The journal has one order (O_APPEND), so what
it must not contain can be said of lines alone.
"""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bus import Broker, ConsumerRecord, Producer, ShareConsumer
from bus.errors import BusError
from bus.share_modes import Mode
from tests.children import Child, Fork, Report

TOPIC: Final = "storm"
#: What becomes of a record, in parts of 20: most are done.
_NACKED, _DELAYED, _RELEASED, _PREFETCHED = 17, 18, 19, 8
#: Records have so many keys in turn; by them a keyed group keeps them in order.
_KEYS: Final = 5


class Journal:
    """Lines "WORD PID TIME OFFSET", in the order in which they were written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, word: str, pid: int, offset: int = -1) -> None:
        """One line, by one write."""
        os.write(self._fd, f"{word} {pid} {time.monotonic_ns()} {offset}\n".encode())

    def lines(self) -> Iterator[tuple[str, int, int, int]]:
        """All of them."""
        for line in self._path.read_text().splitlines():
            word, *numbers = line.split()
            pid, moment, offset = map(int, numbers)
            yield word, pid, moment, offset

    def close(self) -> None:
        os.close(self._fd)


def work(
    bus_dir: Path, journal: Journal, seed: int, mode: Mode = "queue"
) -> Callable[[Report], None]:
    """The body of a member, which ends by being killed."""

    def body(_: Report) -> None:
        dice = random.Random(seed)
        while True:
            with suppress(BusError):  # no broker, or it died while this attached: again
                member = ShareConsumer(
                    TOPIC, group_id="team", mode=mode, bootstrap_servers=bus_dir, autostart=False
                )
                while True:
                    _a_round(member, journal, dice)
            time.sleep(0.02)

    return body


def _a_round(member: ShareConsumer, journal: Journal, dice: random.Random) -> None:
    prefetch = dice.randrange(20) < _PREFETCHED
    found = member.poll(200, max_records=dice.randint(1, 8), prefetch=prefetch)
    for record in (record for some in found.values() for record in some):
        if prefetch and not member.start(record):
            continue
        journal.write("begin", os.getpid(), record.offset)
        _work_for(dice.uniform(0, 0.03))
        _end(member, record, journal, dice.randrange(20))


def _work_for(seconds: float) -> None:
    """In which it may be killed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.002)


def _end(member: ShareConsumer, record: ConsumerRecord, journal: Journal, chance: int) -> None:
    pid = os.getpid()
    if chance < _NACKED:
        journal.write("acking", pid, record.offset)  # before: the next of its key may begin at once
        member.ack(record)
        journal.write("done", pid, record.offset)
        return
    journal.write("back", pid, record.offset)  # before: somebody else may be quicker than this line
    if chance < _DELAYED:
        member.nack(record, delay_ms=20)
    elif chance < _RELEASED:
        member.nack(record)
    else:
        member.release(record)


@dataclass
class Storm:
    """What came of it."""

    mode: Mode = "queue"
    sent: int = 0
    kills: int = 0
    broker_kills: int = 0
    begun: int = 0
    again: int = 0
    #: from a kill to the next beginning of what the dead one was working on, in ms
    latencies_ms: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def percentile(self, part: float) -> float:
        """Of the latencies."""
        ordered = sorted(self.latencies_ms)
        return ordered[min(int(part * len(ordered)), len(ordered) - 1)]


def blow(
    bus_dir: Path,
    broker: Broker,
    fork: Fork,
    *,
    members: int,
    seconds: float,
    seed: int,
    mode: Mode = "queue",
) -> Storm:
    """Let it blow for so long, then let the living finish; judge the journal."""
    storm, dice = Storm(mode=mode), random.Random(seed)
    journal = Journal(bus_dir.parent / f"journal-{seed}")
    try:
        team = [fork(work(bus_dir, journal, seed + n, mode)) for n in range(members)]
        with Producer(bus_dir, acks=1, autostart=False) as producer:
            _kill_for(seconds, broker, storm, team, dice, journal, producer, fork)
        _finish(bus_dir, storm)
        for child in team:
            journal.write("kill", child.pid)
            child.kill()
        judge(storm, journal)
    finally:
        journal.close()
    return storm


def _kill_for(
    seconds: float,
    broker: Broker,
    storm: Storm,
    team: list[Child],
    dice: random.Random,
    journal: Journal,
    producer: Producer,
    fork: Fork,
) -> None:
    bus_dir = Path(broker.path)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(dice.randint(1, 30)):
            producer.send(TOPIC, b"work", key=b"%d" % (storm.sent % _KEYS))
            storm.sent += 1
        time.sleep(dice.uniform(0.02, 0.18))  # the storm's own pace, not a wait for anything
        place = dice.randrange(len(team))
        journal.write("kill", team[place].pid)
        team[place].kill()
        storm.kills += 1
        team[place] = fork(work(bus_dir, journal, dice.randrange(1 << 30), storm.mode))
        if dice.randrange(15) == 0:
            os.kill(broker.pid, signal.SIGKILL)
            broker.stop()  # reaps it: nothing is left to stop
            broker.start()
            storm.broker_kills += 1


def _finish(bus_dir: Path, storm: Storm) -> None:
    """Until everything is done: `low` is where the log ends."""
    with ShareConsumer(
        TOPIC, group_id="team", mode=storm.mode, bootstrap_servers=bus_dir, autostart=False
    ) as watcher:
        deadline = time.monotonic() + 60
        while (figures := watcher.metrics()[f"{TOPIC}-0"])["low"] < storm.sent:
            if time.monotonic() > deadline:
                storm.wrong.append(f"of {storm.sent} records some are not done: {figures}")
                return
            time.sleep(0.02)


def judge(storm: Storm, journal: Journal) -> None:
    """Whether the lines are possible if the promises hold."""
    done: set[int] = set()
    holder: dict[int, int] = {}  # who works on it
    killed: dict[int, int] = {}  # when
    begun: set[int] = set()
    over: dict[int, set[int]] = {}  # by key: said to be done, or about to be
    for word, pid, moment, offset in journal.lines():
        if word == "kill":
            killed[pid] = moment
        elif word == "begin":
            storm.begun += 1
            if offset in done:
                storm.wrong.append(f"{offset} was acknowledged, and came again")
            before = holder.get(offset)
            if before is not None and before not in killed:
                storm.wrong.append(f"{offset} is with {before} and {pid} at a time")
            if before is not None and before in killed:
                storm.latencies_ms.append((moment - killed[before]) / 1e6)
            if storm.mode == "keyed":
                storm.wrong += _passed(offset, over.setdefault(offset % _KEYS, set()))
            storm.again += offset in begun
            begun.add(offset)
            holder[offset] = pid
        else:
            if word == "acking":
                over.setdefault(offset % _KEYS, set()).add(offset)
                continue
            holder.pop(offset, None)
            if word == "done":
                done.add(offset)
    missing = set(range(storm.sent)) - begun
    if missing:
        storm.wrong.append(f"nobody began with {sorted(missing)[:10]}")


def _passed(offset: int, over: set[int]) -> list[str]:
    """Of the older records of the same key: those that this one must not have passed."""
    over.discard(offset)  # its worker died before it could say so
    passed = [older for older in range(offset % _KEYS, offset, _KEYS) if older not in over]
    return [f"{offset} was begun before {passed[:3]} of its key were done"] if passed else []
