"""The wall clock jumps: no record goes by it, no wait is longer or shorter by it."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import bus
from tests.broker.rig import create_topic, durable_files, status
from tests.resources.preload import YEAR_S, Clock, clock_in
from tests.waiting import eventually

MIB = 1 << 20
ROOT = Path(__file__).resolve().parents[2]
CONFIG = bus.BrokerConfig(retention_check_ms=20)
T0 = bus.TopicPartition("t", 0)

#: where the code looks at the wall clock, and what for
WALL_CLOCK = {
    "bus/directory.py": "the time in bus.json and the like, for people",
    "bus/group_admin.py": "the time of a commit, for people",
    "bus/group_tables.py": "the same",
    "bus/groups.py": "against a file's time of change: both by the same clock",
    "bus/kept_acks.py": "when a delayed record of a share group is due after a restart",
    "bus/lag_report.py": "how long ago a commit was, for people",
    "bus/repair/aside.py": "the name of the place where a repair keeps what it changed",
    "bus/wall_clock.py": "retention",
    "bus/native/log.c": "timestamps of segments and, if so configured, of records",
    "bus/native/producer.pxi": "timestamps of records",
}
_WALL = re.compile(
    r"time\.time\(|time\.time_ns|CLOCK_REALTIME|datetime\.now|gettimeofday|[^_]time\(NULL\)"
)


def test_only_timestamps_and_retention_look_at_the_wall_clock() -> None:
    """All that waits does so by the monotonic clock."""
    sources = [
        file
        for file in (ROOT / "bus").rglob("*")
        if file.suffix in (".py", ".pyx", ".pxi", ".c", ".h") and file.name != "core.c"
    ]
    declared = {"bus/native/declarations.pxi", "bus/native/layout.h"}
    found = {
        str(file.relative_to(ROOT)) for file in sources if _WALL.search(file.read_text())
    } - declared
    assert found == set(WALL_CLOCK)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    with clock_in(tmp_path) as clock:
        yield clock


def fill(path: Path) -> None:
    """Four durable segments."""
    create_topic(path, segment_bytes=MIB, hot_bytes=4 * MIB, retention_ms=3_600_000)
    with bus.Producer(path) as producer:
        for _ in range(400):
            producer.send("t", bytes(10_000))
        producer.flush(20)
    assert len(durable_files(path)) == 4


def steps_seen(path: Path) -> int:
    return int(status(path)["counters"]["clock_stepped"])


def look_again(path: Path) -> None:
    """Until the broker has looked for old records some times more."""
    deadline = time.monotonic() + 0.3 + 1.0  # ticks come once a second
    eventually(lambda: status(path) and time.monotonic() > deadline)


@pytest.mark.parametrize("years", [10, -10])
def test_a_clock_that_jumps_by_years_for_a_moment_deletes_nothing(
    bus_dir: Path, clock: Clock, years: int
) -> None:
    with bus.Broker(bus_dir, config=CONFIG):
        fill(bus_dir)
        clock.set_ahead(years * YEAR_S)
        eventually(lambda: steps_seen(bus_dir) == 1, what="the step is counted")
        look_again(bus_dir)
        assert len(durable_files(bus_dir)) == 4
        assert status(bus_dir)["counters"]["segments_rolled_for_age"] == 0
        clock.set_ahead(0)
        eventually(lambda: steps_seen(bus_dir) == 2, what="the step back is counted")
        look_again(bus_dir)
        assert len(durable_files(bus_dir)) == 4
        if years < 0:
            return  # the step back was believed, so the way ahead again is suspected for an hour
        with bus.Admin(bus_dir) as admin:  # retention itself goes on
            admin.alter_configs({"t": {"retention.ms": 1}})
        eventually(lambda: len(durable_files(bus_dir)) < 4, what="old records go")


def test_a_broker_that_is_started_while_the_clock_is_wrong_deletes_nothing(
    bus_dir: Path, clock: Clock
) -> None:
    """Whether the one before was killed or stopped."""
    with bus.Broker(bus_dir, config=CONFIG) as first:
        fill(bus_dir)
        eventually(lambda: (bus_dir / "clock.json").exists())
        clock.set_ahead(10 * YEAR_S)
        os.kill(first.pid, signal.SIGKILL)
        first.stop()
    for _ in range(2):
        with bus.Broker(bus_dir, config=CONFIG):
            look_again(bus_dir)
            assert len(durable_files(bus_dir)) == 4


def test_a_clock_that_stays_ahead_is_believed_in_the_end(bus_dir: Path, clock: Clock) -> None:
    with bus.Broker(bus_dir, config=CONFIG):
        fill(bus_dir)
    clock.set_ahead(10 * YEAR_S)
    view = json.loads((bus_dir / "clock.json").read_text())
    boottime_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    view["suspected_ns"] = view["offset_ns"] + 10 * YEAR_S * 10**9
    view["since_ns"] = boottime_ns - 3_600 * 10**9  # for an hour
    (bus_dir / "clock.json").write_text(json.dumps(view))
    with bus.Broker(bus_dir, config=CONFIG):
        eventually(lambda: len(durable_files(bus_dir)) < 4, what="old records go")


def test_records_whose_timestamps_go_back_are_found_by_time_as_a_scan_finds_them(
    broker: bus.Broker, bus_dir: Path
) -> None:
    dice = random.Random(7)
    stamps = [dice.randrange(1_000, 2_000_000) for _ in range(3000)]
    create_topic(bus_dir, segment_bytes=MIB, hot_bytes=4 * MIB)
    with bus.Producer(bus_dir) as producer:
        for stamp in stamps:
            producer.send("t", bytes(1000), timestamp_ms=stamp)
        producer.flush(20)
    with bus.Consumer(bootstrap_servers=bus_dir) as consumer:
        for _ in range(300):
            wanted = dice.randrange(0, 2_100_000)
            first = next((n for n, stamp in enumerate(stamps) if stamp >= wanted), None)
            found = consumer.offsets_for_times({T0: wanted})[T0]
            assert (None if found is None else found.offset) == first, wanted


#: every call that waits for a time, while another thread sets the clock; what took longer or less
WAITS = """
import json, sys, threading, time
from pathlib import Path
import bus
from bus.errors import BusTimeoutError
from tests.resources.preload import YEAR_S, Clock

path, clock, done = Path(sys.argv[1]), Clock(Path(sys.argv[2])), threading.Event()

def jump():
    ahead = 10 * YEAR_S
    while not done.wait(0.003):
        clock.set_ahead(ahead)
        ahead = -ahead

def timed(name, wait, least, most):
    started = time.monotonic()
    wait()
    took = time.monotonic() - started
    if not least <= took <= most:
        wrong.append(f"{name} took {took:.3f} s, not {least} to {most}")

def in_vain(future):
    try:
        future.get(timeout=0.3)
    except BusTimeoutError:
        return
    wrong.append("a record was durable without its replica")

wrong = []
threading.Thread(target=jump).start()
with bus.Producer(path, autostart=False) as producer:
    timed("a durable record", lambda: producer.send("t", b"x").get(timeout=20), 0, 10)
    timed("a flush", lambda: producer.flush(20), 0, 10)
    with bus.Consumer("t", bootstrap_servers=path, group_id="g", autostart=False,
                      auto_offset_reset="earliest") as consumer:
        timed("a poll with records", lambda: consumer.poll(timeout_ms=20_000), 0, 10)
        timed("a commit", consumer.commit, 0, 10)
        for ms in (0, 50, 300):
            timed("an empty poll", lambda: consumer.poll(timeout_ms=ms), ms / 1e3, ms / 1e3 + 5)
    print("stop", flush=True)
    sys.stdin.readline()
    timed("a get in vain", lambda: in_vain(producer.send("t", b"y")), 0.3, 5)
    done.set()
    print(json.dumps(wrong), flush=True)
    sys.stdin.readline()
"""


def test_waits_are_as_long_as_they_should_be_while_the_clock_jumps(
    bus_dir: Path, tmp_path: Path, clock: Clock
) -> None:
    with bus.Broker(bus_dir, config=CONFIG):
        create_topic(bus_dir)
        with subprocess.Popen(
            [sys.executable, "-c", WAITS, str(bus_dir), str(tmp_path / "clock")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        ) as program:
            try:
                assert program.stdout is not None and program.stdin is not None
                assert program.stdout.readline() == "stop\n"
                pid = status(bus_dir)["replicas"][0]["pid"]
                os.kill(pid, signal.SIGSTOP)
                program.stdin.write("go\n")
                program.stdin.flush()
                wrong = json.loads(program.stdout.readline())
                os.kill(pid, signal.SIGCONT)
                program.stdin.close()
                assert program.wait(20) == 0
            finally:
                program.kill()
        assert wrong == []
