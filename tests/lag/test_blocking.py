"""Who waits, what wakes them, and what they are told."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

import bus
from bus import backpressure
from bus.admin import Admin
from bus.broker import Broker
from bus.errors import BackpressureError, BrokerNotRunningError, CorruptSegmentError
from bus.native.core import LAYOUT
from tests.broker.rig import status
from tests.children import Fork, Report
from tests.handles.blocked import is_asleep, is_thread_asleep
from tests.lag.rig import T0, VALUE, Blocked, alter, commit, fill, limited_topic, reader, sender
from tests.waiting import eventually

#: what the machine may take for a wake-up that does not wait for the next look
SOON_S = 5.0


def is_waiting(thread: Blocked) -> bool:
    """It has not ended, and is not about to: the log does not move."""
    return thread.is_alive()


def test_the_error_names_group_partition_member_and_pid(shared_bus: Path):
    limited_topic(shared_bus, max_lag_records=3)
    with reader(shared_bus, client_id="snail"), sender(shared_bus, 50) as producer:
        assert fill(producer) == 3
        with pytest.raises(BackpressureError) as raised:
            producer.send("t", b"")
    text = str(raised.value)
    assert text.startswith("t-0 is held back by its consumers: group 'g' lags 3 records")
    assert f"member 'snail' (pid {os.getpid()}) has it, it has never committed here" in text


def test_a_group_that_nobody_is_in_is_named_with_its_last_commit(shared_bus: Path):
    limited_topic(shared_bus, max_lag_records=3)
    with sender(shared_bus, 50) as producer:
        with reader(shared_bus) as consumer:
            assert fill(producer) == 3
            commit(consumer, 1)
        assert fill(producer) == 1
        with pytest.raises(BackpressureError, match=r"group g has no member, last commit [\d.]+ s"):
            producer.send("t", b"")


def test_many_who_wait_all_go_on_when_the_group_commits(shared_bus: Path, fork: Fork):
    limited_topic(shared_bus, max_lag_records=20)

    def send_one(report: Report) -> None:
        with sender(shared_bus, 60_000) as producer:
            report("ready")
            producer.send("t", VALUE)
            report("sent")

    with reader(shared_bus) as consumer, sender(shared_bus, 60_000) as producer:
        producer.send_many("t", [VALUE] * 20)
        children = [fork(send_one) for _ in range(4)]
        threads = [Blocked(producer) for _ in range(6)]
        assert [child.next() for child in children] == ["ready"] * 4
        assert all(map(is_waiting, threads))
        commit(consumer, 10)
        assert [child.next() for child in children] == ["sent"] * 4
        assert all(thread.ends() for thread in threads)
        assert [thread.error for thread in threads] == [None] * 6


def test_send_many_of_more_than_the_limit_goes_on_as_the_group_does(shared_bus: Path):
    limited_topic(shared_bus, max_lag_records=50)
    with reader(shared_bus) as consumer, sender(shared_bus, 60_000) as producer:
        waiting = Blocked(producer, 1000)
        taken = 0
        while taken < 1000:
            taken += sum(map(len, consumer.poll(timeout_ms=1000, max_records=17).values()))
            consumer.commit()
        assert waiting.ends()
        assert waiting.error is None


def test_send_many_that_is_refused_has_stored_what_fitted(shared_bus: Path):
    limited_topic(shared_bus, max_lag_records=50)
    with reader(shared_bus) as consumer, sender(shared_bus) as producer:
        with pytest.raises(BackpressureError):
            producer.send_many("t", [VALUE] * 200)
        assert producer.records_sent == 50
        assert sum(map(len, consumer.poll(timeout_ms=1000).values())) == 50


def lift(path: Path, how: str) -> None:
    """Makes room for a group that lags, in one of the ways there are."""
    if how == "commit":
        with Admin(path) as admin:
            admin.alter_group_offsets("g", {T0: 5})
    elif how == "delete":
        with Admin(path) as admin:
            admin.delete_groups(["g"])
    else:
        changes: dict[str, dict[str, object]] = {
            "raise": {"max_lag_records": 100},
            "remove": {"max_lag_records": None},
            "other group": {"max_lag_groups": "somebody-else"},
        }
        alter(path, **changes[how])


@pytest.mark.parametrize("how", ["commit", "delete", "raise", "remove", "other group"])
def test_who_waits_is_woken_and_does_not_have_to_look_by_itself(
    bus_dir: Path, monkeypatch: pytest.MonkeyPatch, how: str
):
    monkeypatch.setattr(backpressure, "SLICE_MS", 60_000.0)
    unwatched = bus.BrokerConfig(page_check_ms=3_600_000)  # else its guard would wake them
    with Broker(bus_dir, config=unwatched):
        limited_topic(bus_dir, max_lag_records=5)
        with reader(bus_dir):
            pass
        with sender(bus_dir, 60_000) as producer:
            producer.send_many("t", [VALUE] * 5)
            waiting = Blocked(producer)
            eventually(lambda: is_thread_asleep(waiting.native_id))
            lift(bus_dir, how)
            assert waiting.ends(SOON_S)
            assert waiting.error is None


def test_a_limit_that_is_lowered_or_set_counts_for_producers_that_run(shared_bus: Path):
    limited_topic(shared_bus)
    with reader(shared_bus) as consumer, sender(shared_bus) as producer:
        producer.send_many("t", [VALUE] * 50)
        alter(shared_bus, max_lag_records=60)
        assert fill(producer) == 10
        alter(shared_bus, max_lag_records=20)
        commit(consumer, 30)
        assert fill(producer) == 0
        commit(consumer, 45)
        assert fill(producer) == 5


def test_a_consumer_that_is_killed_leaves_the_limit_to_its_successor(shared_bus: Path, fork: Fork):
    limited_topic(shared_bus, max_lag_records=5)

    def read(report: Report) -> None:
        with reader(shared_bus):
            report("joined")
            threading.Event().wait()

    child = fork(read)
    assert child.next() == "joined"
    with sender(shared_bus, 60_000) as producer:
        producer.send_many("t", [VALUE] * 5)
        waiting = Blocked(producer)
        child.kill()
        with sender(shared_bus) as another, pytest.raises(BackpressureError, match="has no member"):
            another.send("t", b"")
        assert is_waiting(waiting)
        with reader(shared_bus) as consumer:
            eventually(lambda: consumer.poll(timeout_ms=100), what="the heir reads")
            consumer.commit()
            assert waiting.ends(SOON_S)
            assert waiting.error is None


def test_a_broker_that_is_killed_is_not_needed_and_its_heir_keeps_the_limit(
    bus_dir: Path, broker: Broker
):
    limited_topic(bus_dir, max_lag_records=5)
    with reader(bus_dir) as consumer, sender(bus_dir) as producer:
        assert fill(producer) == 5
        os.kill(broker.pid, signal.SIGKILL)
        assert fill(producer) == 0
        commit(consumer, 2)
        assert fill(producer) == 2
        with Broker(bus_dir):
            assert fill(producer) == 0
            commit(consumer, 3)
            assert fill(producer) == 1


def test_a_bus_that_is_stopped_tells_those_who_wait(bus_dir: Path, broker: Broker):
    limited_topic(bus_dir, max_lag_records=5)
    with reader(bus_dir), sender(bus_dir, 60_000) as producer:
        producer.send_many("t", [VALUE] * 5)
        waiting = Blocked(producer)
        broker.stop()
        assert waiting.ends()
        assert isinstance(waiting.error, BrokerNotRunningError)


def test_ctrl_c_ends_the_wait(shared_bus: Path, fork: Fork):
    limited_topic(shared_bus, max_lag_records=5)

    def send(report: Report) -> None:
        with sender(shared_bus, 60_000) as producer:
            producer.send_many("t", [VALUE] * 5)
            try:
                report("full")
                producer.send("t", b"")
            except KeyboardInterrupt:
                report("interrupted")

    with reader(shared_bus):
        child = fork(send)
        assert child.next() == "full"
        eventually(lambda: is_asleep(child.pid))
        child.send(signal.SIGINT)
        assert child.next(SOON_S) == "interrupted"
        assert child.wait() == 0


def test_who_does_not_want_to_wait_is_told_at_once_and_not_before_it_was_looked(shared_bus: Path):
    limited_topic(shared_bus, max_lag_records=5)
    with (
        reader(shared_bus) as consumer,
        bus.Producer(shared_bus, acks=0, max_block_ms=0) as producer,
    ):
        assert fill(producer) == 5
        commit(consumer, 5)
        began = time.monotonic()
        assert fill(producer) == 5
        assert time.monotonic() - began < SOON_S


def test_a_consumer_that_is_stopped_is_named_with_its_state(shared_bus: Path, fork: Fork):
    limited_topic(shared_bus, max_lag_records=3)

    def read(report: Report) -> None:
        with reader(shared_bus, client_id="snail"):
            report("joined")
            threading.Event().wait()

    child = fork(read)
    assert child.next() == "joined"
    child.send(signal.SIGSTOP)
    with sender(shared_bus) as producer:
        assert fill(producer) == 3
        named = rf"member 'snail' \(pid {child.pid}\) \(state T .*kill -CONT {child.pid}"
        with pytest.raises(BackpressureError, match=named):
            producer.send("t", b"")
    child.send(signal.SIGCONT)


def test_a_commit_that_is_lost_is_an_error_that_says_so(shared_bus: Path):
    limited_topic(shared_bus, max_lag_records=3)
    with reader(shared_bus) as consumer, sender(shared_bus) as producer:
        assert fill(producer) == 3
        commit(consumer, 1)
        overwrite_commits(shared_bus)
        with pytest.raises(CorruptSegmentError, match="reset-offsets"):
            producer.send("t", b"")
        [row] = status(shared_bus)["lag"]
        assert "reset-offsets" in row["reader"]
    with Admin(shared_bus) as admin:
        admin.alter_group_offsets("g", {T0: 2})


def overwrite_commits(path: Path) -> None:
    """Spoils both copies of the first entry, but not what they name."""
    page = LAYOUT["BUS_PAGE"]
    with (path / "groups" / "g.offsets").open("r+b") as file:
        for copy in (1, 2):
            file.seek(copy * page + LAYOUT["bus_offset_entry.offset"])
            file.write(b"\xff" * 8)
