"""A real bus on a real ext4 on a disk that logs what it is asked to do; and the same disk later,
after the power was cut in between: all before the last flush, and any part of what came then."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from unittest.mock import patch

import bus
from bus.broker import Broker
from bus.check import check_directory
from bus.errors import BusError
from tests.bad_input.places import run
from tests.power import promises
from tests.power.device import Request, logged_disk, read_log
from tests.power.machine import Machine
from tests.power.promises import Promises
from tests.tools import tool

DISK_BYTES = 48 << 20
SECTOR = 512
PARTITIONS = 2


#: promises, each with the length of the log when it was made
Marks = list[tuple[int, object]]


@dataclass
class Run:
    """What the disk held at first, what it was asked to do, and what was promised meanwhile."""

    base: bytes
    requests: list[Request]
    marks: Marks


@contextmanager
def mounted(disk: Path, where: Path) -> Iterator[Path]:
    """An ext4 in a file, mounted through a loop device; both are free after the block."""
    where.mkdir(exist_ok=True)
    device = run(tool("losetup"), "--find", "--show", str(disk)).strip()
    try:
        run("mount", "-t", "ext4", device, str(where))
        try:
            yield where
        finally:
            run("umount", str(where))
    finally:
        run(tool("losetup"), "--detach", device)


def record(place: Path, seed: int, count: int) -> Run:
    """A broker, its replicas and a producer with acks="all"; `count` rounds of records."""
    return _record(place, lambda where, log: _serve(where, log, Random(seed), count))


def record_without_fdatasync(place: Path, seed: int, count: int) -> Run:
    """The same in one process, whose fdatasync does nothing: its promises are worth nothing."""

    def live(where: Path, log: Path) -> Marks:
        marks: Marks = []
        hot = place / "hot"
        with patch.object(os, "fdatasync", lambda _fd: None):
            machine = Machine(
                where / "bus", hot, lambda mark: marks.append((log.stat().st_size, mark))
            ).start()
            machine.create_topic("orders", 1, segment_bytes=1 << 20, hot_bytes=4 << 20)
            dice = Random(seed)
            for _ in range(count):
                machine.send((1, 0), dice.randbytes(700))
                machine.drain((1, 0))
            marks.append((log.stat().st_size, None))
            machine.lose_power()
        return marks

    return _record(place, live)


def formatted(place: Path, *options: str) -> bytes:
    """An empty ext4."""
    blank = place / "blank"
    with blank.open("xb") as file:
        file.truncate(DISK_BYTES)
    run(tool("mkfs.ext4"), "-q", "-b", "4096", *options, str(blank))
    base = blank.read_bytes()
    blank.unlink()
    return base


def _record(place: Path, live: Callable[[Path, Path], Marks]) -> Run:
    base = formatted(place)
    with logged_disk(place, base) as (disk, log):
        with mounted(disk, place / "mnt") as where:
            marks = live(where, log)
        end = marks[-1][0]  # what the stop and the unmounting wrote came later
        requests = [one for one in read_log(log) if one.end <= end]
    log.unlink()
    return Run(base, requests, marks)


def _serve(where: Path, log: Path, dice: Random, count: int) -> Marks:
    path = where / "bus"
    marks: Marks = []
    with Broker(path):
        _send(path, log, marks, dice, count)
    return marks


def _send(path: Path, log: Path, marks: Marks, dice: Random, count: int) -> None:
    with bus.Admin(path) as admin:
        configs = {"segment.bytes": str(1 << 20), "hot.bytes": str(4 << 20)}
        admin.create_topics([bus.NewTopic("orders", PARTITIONS, topic_configs=configs)])
    marks.append((log.stat().st_size, promises.TopicMade("orders", 1, PARTITIONS)))
    with bus.Producer(path, autostart=False) as producer:
        for _ in range(count):
            sent = []
            for _ in range(dice.randint(1, 4)):
                partition = dice.randrange(PARTITIONS)
                value = dice.randbytes(dice.choice((10, 700, 5000, 40_000)))
                before = log.stat().st_size
                future = producer.send("orders", value, partition=partition)
                marks.append((before, promises.Appended((1, partition), future.offset, value)))
                sent.append((partition, future))
            for partition, future in sent:
                future.get(timeout=30)
                done = promises.Watermark((1, partition), future.offset + 1)
                marks.append((log.stat().st_size, done))


def cut(run_: Run, place: Path, number: int, seed: int, *, at_end: bool = False) -> list[str]:
    """One power loss, anywhere or after the last promise, and what is wrong after it."""
    dice = Random(f"{seed}-{number}")
    at = len(run_.requests) if at_end else dice.randrange(len(run_.requests) + 1)
    end = run_.requests[at - 1].end if at else 0
    image = place / "crashed"
    image.write_bytes(crashed(run_, at, dice))
    promised = Promises().fold(mark for stamp, mark in run_.marks if stamp <= end)
    try:
        with mounted(image, place / "again") as where:
            return _wrong(where / "bus", place / "hot", promised)
    except BusError as error:
        return [f"{type(error).__name__}: {error}"]
    finally:
        image.unlink()


def crashed(run_: Run, at: int, dice: Random) -> bytes:
    """The disk after `at` requests: each write since the last flush is there, torn, or not."""
    flushed = max((i for i in range(at) if run_.requests[i].data is None), default=-1)
    image = bytearray(run_.base)
    for number, (position, data, _) in enumerate(run_.requests[:at]):
        if data is None:
            continue
        fate = 0.0 if number <= flushed else dice.random()
        for start in range(0, len(data), SECTOR):
            if fate < 0.4 or (fate < 0.7 and dice.random() < 0.5):
                part = data[start : start + SECTOR]
                image[position + start : position + start + len(part)] = part
    return bytes(image)


def _wrong(path: Path, hot: Path, promised: Promises) -> list[str]:
    machine = Machine(path, hot).start()
    try:
        wrong = promised.broken_by(machine.found())
        return wrong + [f"bus check: {damage}" for damage in check_directory(path)]
    finally:
        machine.lose_power()
