"""A broker that dies between any two lines of its code leaves a bus that the next one can take on.

Starting (adopting or rebuilding), creating, growing and deleting topics, groups, stopping: each
broker dies at a random line of all that, and another one follows on the same directory.
"""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import bus
from bus.autostart import environment
from bus.broker import Broker
from bus.errors import BusError
from tests.broker.rig import answers, ask
from tests.faults.witness import read_all
from tests.waiting import eventually

#: Brokers that die; more by BUS_FAULT_DEATHS.
DEATHS = int(os.environ.get("BUS_FAULT_DEATHS", "8"))
RUN_S = 60.0
#: Lines of a whole life with all that `work` asks for, roughly: deaths fall in this range.
_LINES_MIN, _LINES_MAX = 1, 9_000


@pytest.fixture
def seed() -> int:
    given = os.environ.get("BUS_FAULT_SEED")
    chosen = int(given) if given else int.from_bytes(os.urandom(3), "big")
    print(f"BUS_FAULT_SEED={chosen}")
    return chosen


@contextmanager
def stepped_broker(path: Path, lines: int) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-m", "tests.faults.stepped", str(lines), str(path)]
    process = subprocess.Popen(command, env=environment(), stdin=subprocess.DEVNULL)
    try:
        yield process
        assert process.wait(RUN_S) in (0, -9), f"at line {lines}: exit code {process.returncode}"
    finally:
        process.kill()
        process.wait()


def work(path: Path, turn: int, acknowledged: dict[int, bytes]) -> None:
    """Everything that a broker does, as far as it lives. Raises BusError when it is dead."""
    with bus.Admin(path, autostart=False) as admin:
        if "kept" not in admin.list_topics():
            admin.create_topics([bus.NewTopic("kept", 1)])
        with bus.Producer(path, autostart=False) as producer:
            for number in range(3):
                value = b"%d-%d" % (turn, number)
                future = producer.send("kept", value)
                acknowledged[future.get(timeout=10).offset] = value
        admin.create_topics(
            [
                bus.NewTopic(f"new-{turn}", 2),
                bus.NewTopic(f"memory-{turn}", 1, topic_configs={"durability": "memory"}),
            ]
        )
        admin.create_partitions({f"new-{turn}": 3})
        admin.alter_configs({f"new-{turn}": {"retention.ms": 60_000}})
        read_and_leave(path, f"group-{turn}")
        admin.delete_groups([f"group-{turn}"])
        admin.delete_topics([f"new-{turn}", f"memory-{turn}"])
    ask(path, "stop")


def read_and_leave(path: Path, group: str) -> None:
    with bus.Consumer(
        "kept",
        bootstrap_servers=path,
        group_id=group,
        auto_offset_reset="earliest",
        autostart=False,
    ) as consumer:
        consumer.poll(timeout_ms=1000)
        consumer.commit()


def listens(path: Path) -> bool:
    try:
        return answers(path)
    except BusError:  # its directory, or it, is being made or has just died
        return False


def live_and_die(path: Path, turn: int, lines: int, acknowledged: dict[int, bytes]) -> None:
    with stepped_broker(path, lines) as process:
        eventually(lambda: process.poll() is not None or listens(path), RUN_S, "a broker or none")
        try:
            work(path, turn, acknowledged)
        except (BusError, OSError) as error:
            print(f"turn {turn}, line {lines}: {type(error).__name__}: {error}")
            assert process.wait(RUN_S) == -9, f"a living broker failed at {error!r}"


def assert_takes_on(path: Path, acknowledged: dict[int, bytes]) -> None:
    """Another broker starts, finds every record, and can do all that the dead one was at."""
    with Broker(path), bus.Admin(path, autostart=False) as admin:
        left = [name for name in admin.list_topics() if name != "kept"]
        admin.delete_topics(left)
        admin.delete_groups([group["group_id"] for group in admin.list_groups()])
        log = read_all(path, ["kept"] if "kept" in admin.list_topics() else [])
        found = {one.offset: one.value for records in log.values() for one in records}
        lost = {offset for offset, value in acknowledged.items() if found.get(offset) != value}
        assert not lost
        with bus.Producer(path, autostart=False) as producer:
            assert producer.send("next", b"x").get(timeout=20).offset == 0
        admin.delete_topics(["next"])


@pytest.mark.timeout(60 + 20 * DEATHS)
def test_a_broker_may_die_between_any_two_lines(bus_dir: Path, seed: int) -> None:
    dice = random.Random(seed)
    acknowledged: dict[int, bytes] = {}
    for turn in range(DEATHS):
        # the logarithm spreads deaths over the short phases, start above all, and the long ones
        lines = round(_LINES_MIN * (_LINES_MAX / _LINES_MIN) ** dice.random())
        if dice.random() < 0.5:
            lines = dice.randrange(_LINES_MIN, _LINES_MAX)
        live_and_die(bus_dir, turn, lines, acknowledged)
        assert_takes_on(bus_dir, acknowledged)
