"""Ctrl-C in every blocking call: KeyboardInterrupt comes at once, and everything still works."""

import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

import bus
from tests.bad_input.test_full_disk import values
from tests.children import Fork, Report
from tests.handles.blocked import fill_queue, is_asleep, make_queue, replica_pid, stopped
from tests.waiting import eventually

#: what a person takes for "at once"; and with other work on every core
PROMPT_S = 0.1
LATE_S = 0.3
REPEATS = 5

#: one call that blocks for ever, on a bus with a topic "t" and a full-able queue "q"
Call = Callable[[Path, ExitStack], Callable[[], Any]]


def producer_of(path: Path, stack: ExitStack, **options: Any) -> bus.Producer:
    return stack.enter_context(bus.Producer(path, **options))


def consumer_of(path: Path, stack: ExitStack, topic: str = "empty", **options: Any) -> bus.Consumer:
    return stack.enter_context(bus.Consumer(topic, bootstrap_servers=path, **options))


def blocked_send(path: Path, stack: ExitStack) -> Callable[[], Any]:
    consumer_of(path, stack, "q", auto_offset_reset="earliest").poll()
    producer = producer_of(path, stack)
    return lambda: fill_queue(producer)


def get_of_a_stopped_replica(path: Path, stack: ExitStack) -> Callable[[], Any]:
    producer = producer_of(path, stack)
    return producer.send("t", b"x").get


def flush(path: Path, stack: ExitStack) -> Callable[[], Any]:
    producer = producer_of(path, stack)
    producer.send("t", b"x")
    return producer.flush


def close(path: Path, stack: ExitStack) -> Callable[[], Any]:
    producer = producer_of(path, stack)
    producer.send("t", b"x")
    return producer.close


def admin_call(path: Path, stack: ExitStack) -> Callable[[], Any]:
    admin = stack.enter_context(bus.Admin(path))
    return admin.describe_cluster


CALLS: dict[str, tuple[str, Call]] = {
    "poll": ("", lambda path, stack: lambda: consumer_of(path, stack).poll(timeout_ms=1e9)),
    "poll of a group": (
        "",
        lambda path, stack: lambda: consumer_of(path, stack, group_id="g").poll(timeout_ms=1e9),
    ),
    "iteration": ("", lambda path, stack: lambda: next(consumer_of(path, stack))),
    "blocked send": ("", blocked_send),
    "future.get": ("replica", get_of_a_stopped_replica),
    "flush": ("replica", flush),
    "close": ("replica", close),
    "admin call": ("broker", admin_call),
}


@contextmanager
def held_up(path: Path, broker: bus.Broker, who: str) -> Iterator[None]:
    """Nothing moves on: the replica of "t", or the broker, is stopped."""
    pids = {"replica": lambda: [replica_pid(path)], "broker": lambda: [broker.pid]}
    with stopped(*pids.get(who, list)()):
        yield


@pytest.mark.parametrize("name", CALLS)
def test_ctrl_c_ends_a_blocking_call_at_once_and_everything_goes_on(
    bus_dir: Path, broker: bus.Broker, fork: Fork, name: str
) -> None:
    make_queue(bus_dir)
    with bus.Producer(bus_dir) as producer:
        for topic in ("t", "empty"):
            producer.send(topic, b"before").get(timeout=10)
    who, call = CALLS[name]
    repeats = 1 if name == "close" else REPEATS  # closed is closed, Ctrl-C or not

    def interrupted(report: Report) -> None:
        with ExitStack() as stack:
            block = prepare(call, bus_dir, stack, report)
            for _ in range(repeats):
                try:
                    report("blocking")
                    block()
                except KeyboardInterrupt:
                    report(time.monotonic_ns())
            report("done")
            stack.pop_all().close()
        with bus.Producer(bus_dir) as again:
            report(again.send("t", b"after").get(timeout=10).offset > 0)

    delays = []
    child = fork(interrupted)
    assert child.next() == "prepared"
    with held_up(bus_dir, broker, who):
        child.send(signal.SIGUSR1)
        for _ in range(repeats):
            assert child.next() == "blocking"
            delays.append(interrupt(child.pid, child.next))
        assert child.next() == "done"
    assert child.next() is True
    assert child.wait() == 0
    assert max(delays) < LATE_S, delays
    assert statistics.median(delays) < PROMPT_S, delays
    assert values(bus_dir)[-1] == b"after"


def prepare(call: Call, path: Path, stack: ExitStack, report: Report) -> Callable[[], Any]:
    """Attaches, lets the test stop whom it wants to stop, and gives the call that blocks."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    if call in (get_of_a_stopped_replica, flush, close):
        report("prepared")
        signal.sigwait([signal.SIGUSR1])
        return call(path, stack)
    block = call(path, stack)
    report("prepared")
    signal.sigwait([signal.SIGUSR1])
    return block


def interrupt(pid: int, answer: Callable[[], Any]) -> float:
    """Ctrl-C once the process sleeps; seconds until it was told."""
    eventually(lambda: is_asleep(pid), what="the call blocks")
    sent = time.monotonic_ns()
    os.kill(pid, signal.SIGINT)
    return float(answer() - sent) / 1e9


def test_ctrl_c_while_a_broker_starts_leaves_none_running(bus_dir: Path, fork: Fork) -> None:
    bus_dir.parent.mkdir(exist_ok=True)

    def start(report: Report) -> None:
        broker = bus.Broker(bus_dir)
        report("starting")
        try:
            broker.start()
        except KeyboardInterrupt:
            report(time.monotonic_ns())
        with broker:
            report(broker.epoch)

    child = fork(start)
    assert child.next() == "starting"
    eventually(lambda: bus_dir.exists() or is_asleep(child.pid), what="the broker is starting")
    sent = time.monotonic_ns()
    child.send(signal.SIGINT)
    assert (child.next() - sent) / 1e9 < LATE_S
    assert child.next() in (1, 2)
    assert child.wait() == 0


def test_ctrl_c_while_a_broker_stops_lets_it_stop_by_a_second_call(
    bus_dir: Path, fork: Fork
) -> None:
    def stop(report: Report) -> None:
        broker = bus.Broker(bus_dir).start()
        with bus.Producer(bus_dir) as producer:
            producer.send("t", b"x").get(timeout=10)
            report(replica_pid(bus_dir))
            signal.sigwait([signal.SIGUSR1])
            report("stopping")
            try:
                broker.stop()
            except KeyboardInterrupt:
                report(time.monotonic_ns())
            signal.sigwait([signal.SIGUSR1])
        broker.stop()
        report("stopped")

    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        child = fork(stop)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
    with stopped(child.next()):
        child.send(signal.SIGUSR1)
        assert child.next() == "stopping"
        delay = interrupt(child.pid, child.next)
    child.send(signal.SIGUSR1)
    assert child.next() == "stopped"
    assert child.wait() == 0
    assert delay < PROMPT_S


def test_ctrl_c_while_a_client_starts_a_broker_leaves_a_bus_that_works(
    bus_dir: Path, fork: Fork
) -> None:
    def attach(report: Report) -> None:
        report("attaching")
        try:
            bus.Producer(bus_dir)
        except KeyboardInterrupt:
            report(time.monotonic_ns())
        with bus.Producer(bus_dir) as producer:
            report(producer.send("t", b"x").get(timeout=10).offset)

    child = fork(attach)
    assert child.next() == "attaching"
    eventually(lambda: (bus_dir / "broker.log").exists(), what="a broker is being started")
    sent = time.monotonic_ns()
    child.send(signal.SIGINT)
    assert (child.next() - sent) / 1e9 < LATE_S
    assert child.next() == 0
    assert child.wait() == 0
