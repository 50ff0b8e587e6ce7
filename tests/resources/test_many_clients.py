"""As many clients as there may be, one more, and hundreds that die at once.

The default run kills 60 at once; `tox -e resources` fills all slots with processes and handles.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import bus
from bus.config import CLIENTS_MAX
from bus.directory import BusDirectory
from bus.errors import BusError, TooManyClientsError
from bus.liveness import RESERVED_SLOTS, lock_byte
from tests.broker.rig import is_alive, kill, replica, status
from tests.buses import bus_ids
from tests.children import Child, Fork, Report
from tests.faults.witness import read_all
from tests.resources.figures import descriptors, note, own_mib
from tests.waiting import eventually

WHOLE = os.environ.get("BUS_RESOURCE_SAMPLES") == "0"
SLOTS = CLIENTS_MAX - RESERVED_SLOTS
#: the last slots, which are taken by handles; in the default run the rest are only locked
HELD = SLOTS if WHOLE else 30
#: processes, each with so many handles
PROCESSES, HANDLES = (500, 1) if WHOLE else (20, 3)
#: a tree of processes: so many children each, and so deep
WIDTH, DEPTH = (4, 4) if WHOLE else (3, 2)


def attached(path: Path) -> int:
    return len(status(path)["clients"])


def hold(path: Path, handles: int) -> "list[bus.Producer]":
    return [
        bus.Producer(path, client_id=f"pid {os.getpid()}", autostart=False) for _ in range(handles)
    ]


@contextmanager
def slots_taken(path: Path, count: int) -> Iterator[None]:
    """The first slots look as if somebody were just attaching to each."""
    with BusDirectory.open(path) as directory:
        fd = directory.open_clients_lock()
    try:
        assert all(lock_byte(fd, slot) for slot in range(count))
        yield
    finally:
        os.close(fd)


def crowd(path: Path, fork: Fork, processes: int, handles: int) -> list[Child]:
    """Processes that hold so many producers each, and have sent one record by each."""

    def live(report: Report) -> None:
        held = hold(path, handles)
        for producer in held:
            producer.send("t", b"%d" % os.getpid()).get(timeout=120)
        report(len(held))
        signal.pause()

    children = [fork(live) for _ in range(processes)]
    for child in children:
        assert child.next(120) == handles
    return children


@pytest.mark.timeout(400)
def test_the_last_slot_is_given_the_next_client_is_told_how_many_there_are(
    broker: bus.Broker, bus_dir: Path
) -> None:
    before = own_mib(broker.pid)
    with slots_taken(bus_dir, SLOTS - HELD), bus.Producer(bus_dir) as producer:
        producer.send("t", b"x").get(timeout=20)
        started = time.monotonic()
        others = hold(bus_dir, HELD - 1)
        note(f"{HELD} handles attached in", f"{time.monotonic() - started:.1f} s")
        note(f"{HELD} handles: memory of the broker", f"{own_mib(broker.pid):.0f} MiB")
        note(f"{HELD} handles: descriptors of the broker", str(descriptors(broker.pid)))
        assert own_mib(broker.pid) - before < 32
        for _ in range(3):
            with pytest.raises(
                TooManyClientsError, match=rf"all {SLOTS} client slots of .*close some.*bus status"
            ):
                bus.Producer(bus_dir)
        kill(replica(bus_dir)["pid"])  # there is a slot for another one
        assert producer.send("t", b"y").get(timeout=20).offset == 1
        assert attached(bus_dir) == HELD, "bus status needs no slot"
        others.pop().close()
        with bus.Producer(bus_dir) as late:
            assert late.send("t", b"z").get(timeout=20).offset == 2
        for other in others:
            other.close()
    eventually(lambda: attached(bus_dir) == 0, what="all slots are free")


@pytest.mark.timeout(600)
def test_hundreds_of_clients_that_are_killed_at_once_leave_their_slots(
    broker: bus.Broker, bus_dir: Path, fork: Fork
) -> None:
    count = PROCESSES * HANDLES
    with bus.Producer(bus_dir) as producer:
        producer.send("t", b"x").get(timeout=20)
        slowest = 0.0
        for _ in range(2):
            children = crowd(bus_dir, fork, PROCESSES, HANDLES)
            assert attached(bus_dir) == count + 1
            for child in children:
                child.send(signal.SIGKILL)
            started = time.monotonic()
            for child in children:
                child.wait(60)
            sent = time.monotonic()
            producer.send("t", b"among the dead").get(timeout=20)
            slowest = max(slowest, time.monotonic() - sent)
            eventually(lambda: attached(bus_dir) == 1, 60, "the slots of the dead are free")
            note(
                f"{count} clients killed at once: all slots free after",
                f"{time.monotonic() - started:.1f} s",
            )
        note(f"{count} clients killed at once: a durable send meanwhile", f"{slowest:.2f} s")
        assert status(bus_dir)["counters"]["client_reaped"] == 2 * count
    doorbells = [one for one in os.listdir("/dev/shm") if one.startswith("sem.bus-")]
    (bus_id,) = bus_ids(bus_dir)
    assert sum(bus_id in one for one in doorbells) == 1, "the replica's alone"


@pytest.mark.timeout(600)
def test_a_tree_of_children_that_inherit_a_producer_and_send_harms_nobody(
    broker: bus.Broker, bus_dir: Path, fork: Fork
) -> None:
    """Each attaches anew, or is told that there is no slot; all that was acknowledged is there."""

    def grow(report: Report) -> None:
        producer = bus.Producer(bus_dir, autostart=False)
        producer.send("t", b"root").get(timeout=60)
        _branch(producer, DEPTH, report)

    root = fork(grow)
    with bus.Producer(bus_dir) as bystander:
        slowest = 0.0
        while root.exit_code is None:
            started = time.monotonic()
            bystander.send("u", b"x").get(timeout=30)
            slowest = max(slowest, time.monotonic() - started)
            pid, code = os.waitpid(root.pid, os.WNOHANG)
            if pid:
                root.exit_code = os.waitstatus_to_exitcode(code)
    note("fork bomb: slowest durable send of a bystander", f"{slowest:.2f} s")
    told = root.rest()
    clients = [value for kind, value in told if kind == "sent"]
    sent = [pid for pid, _ in clients]
    refused = [value for kind, value in told if kind == "refused"]
    note("fork bomb: children that sent, and that were refused", f"{len(sent)}, {len(refused)}")
    assert len(sent) + len(refused) == sum(WIDTH**level for level in range(1, DEPTH + 1))
    assert sent and all("client slots" in one for one in refused), refused
    assert len({generation for _, generation in clients}) == len(sent), (
        "nobody goes on in the slot of another process"
    )
    eventually(lambda: attached(bus_dir) == 0, 30, "all slots are free")
    log = [one.value for one in read_all(bus_dir, ["t"])["t", 0]]
    assert sorted(log) == sorted([b"root", *(f"{pid}".encode() for pid in sent)])


def _branch(producer: bus.Producer, depth: int, report: Report) -> None:
    """A generation of children, each of which sends and has children of its own."""
    if depth == 0:
        return
    children = []
    for _ in range(WIDTH):
        pid = os.fork()
        if pid:
            children.append(pid)
            continue
        try:
            producer.send("t", b"%d" % os.getpid()).get(timeout=120)
            report(["sent", [os.getpid(), producer._client.slot.generation]])
        except BusError as error:
            report(["refused", str(error)])
        _branch(producer, depth - 1, report)
        os._exit(0)
    for pid in children:
        os.waitpid(pid, 0)
    assert not any(is_alive(pid) for pid in children)
