"""Who is alive: slots, locks that the kernel takes back, doorbells that do not leak."""

import os
import subprocess
import sys

import posix_ipc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus import liveness
from bus.directory import BusDirectory
from bus.errors import BusConfigurationError, CorruptSegmentError, TooManyClientsError
from bus.liveness import (
    ROLE_CONSUMER,
    ROLE_PRODUCER,
    ROLE_REPLICA,
    ClientSlot,
    Process,
    any_locked,
    client_row,
    client_rows,
    describe_holder,
    free_client,
    is_dead,
    lock_byte,
    process_start_ticks,
    unlock_byte,
)
from bus.native.core import LAYOUT, Bells, Table

CONTROL_BYTES = LAYOUT["sizeof.bus_control"]


@pytest.fixture
def directory(tmp_path):
    with BusDirectory.create(tmp_path / "bus") as made:
        yield made


@pytest.fixture
def control(directory):
    """A bus.ctl of its own; every doorbell in it must be gone when the test ends."""
    path = directory.path / "bus.ctl"
    path.write_bytes(bytes(CONTROL_BYTES))
    with path.open("r+b") as file:
        table = Table(file.fileno(), CONTROL_BYTES)
    table.store_release(LAYOUT["bus_control.bus_id"], directory.bus_id)
    table.store_release(LAYOUT["bus_control.next_generation"], 1)
    yield table
    left = [name for name in os.listdir("/dev/shm") if f"sem.bus-{directory.bus_id_hex}" in name]
    assert left == []


@pytest.fixture
def fds(directory):
    """Two open file descriptions of clients.lock."""
    pair = directory.open_clients_lock(), directory.open_clients_lock()
    yield pair
    for fd in pair:
        os.close(fd)


def bell_exists(name):
    try:
        posix_ipc.Semaphore(name).close()
    except posix_ipc.ExistentialError:
        return False
    return True


# --------------------------------------------------------------------------------- byte locks


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.booleans()), max_size=30))
def test_a_byte_has_one_holder_at_most(tmp_path_factory, steps):
    with BusDirectory.create(tmp_path_factory.mktemp("bus")) as directory:
        fds = [directory.open_clients_lock() for _ in range(2)]
        held = {}
        for second, byte, lock in steps:
            me, other = fds[second], fds[not second]
            if lock:
                assert lock_byte(me, byte) == (held.get(byte, me) == me)
                held.setdefault(byte, me)
            else:
                unlock_byte(me, byte)
                if held.get(byte) == me:
                    del held[byte]
            assert is_dead(other, byte) == (held.get(byte, other) == other)
            assert any_locked(other) == (me in held.values())
        for fd in fds:
            os.close(fd)


def test_closing_another_descriptor_of_the_file_does_not_free_the_byte(directory, fds):
    assert lock_byte(fds[0], 5)
    os.close(directory.open_clients_lock())
    assert not is_dead(fds[1], 5)


def test_a_lock_belongs_to_the_description_and_ends_with_its_last_descriptor(directory, fds):
    mine = directory.open_clients_lock()
    lock_byte(mine, 5)
    copy = os.dup(mine)
    os.close(mine)
    assert not is_dead(fds[1], 5)
    os.close(copy)
    assert is_dead(fds[1], 5)


# ---------------------------------------------------------------------------------- processes


def test_a_process_is_told_from_another_by_its_start():
    me = Process.current()
    assert me.pid == os.getpid()
    assert me.alive
    assert not Process(me.pid, me.start_ticks + 1).alive


def test_a_process_that_is_gone_has_no_start():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert process_start_ticks(process.pid) is None


def test_a_name_with_spaces_and_brackets_does_not_hide_the_start(monkeypatch):
    fields = " ".join(str(number) for number in range(3, 53))
    monkeypatch.setattr(liveness.Path, "read_text", lambda *_, **__: f"1 (a) b (c) {fields}")
    assert process_start_ticks(1) == 22


# -------------------------------------------------------------------------------------- slots


def test_a_taken_slot_says_who_has_it(directory, control, fds):
    taken = ClientSlot.take(directory, control, ROLE_PRODUCER, "päter")
    row = client_row(control, taken.slot)
    assert row.attached
    assert (row.pid, row.role_name, row.client_id) == (os.getpid(), "producer", "päter")
    assert row.start_ticks == Process.current().start_ticks
    assert row.generation == taken.generation
    assert client_rows(control) == [row]
    assert describe_holder(control, taken.slot) == f"pid {os.getpid()} (päter)"
    assert not is_dead(fds[0], taken.slot)
    taken.release()


def test_a_released_slot_leaves_no_lock_no_doorbell_and_no_row(directory, control, fds):
    taken = ClientSlot.take(directory, control, ROLE_CONSUMER, "c")
    bell = Bells(control).name(taken.slot)
    assert bell_exists(bell)
    taken.release()
    taken.release()
    assert not bell_exists(bell)
    assert is_dead(fds[0], taken.slot)
    assert client_rows(control) == []
    assert "gone" in describe_holder(control, taken.slot)


def test_two_clients_of_one_process_have_slots_of_their_own(directory, control):
    one = ClientSlot.take(directory, control, ROLE_PRODUCER, "one")
    two = ClientSlot.take(directory, control, ROLE_PRODUCER, "two")
    assert one.slot != two.slot
    assert one.generation != two.generation
    one.release()
    two.release()


def test_a_slot_taken_again_has_another_generation(directory, control):
    generations = set()
    for _ in range(3):
        taken = ClientSlot.take(directory, control, ROLE_PRODUCER, "x")
        assert taken.slot == 0
        generations.add(taken.generation)
        taken.release()
    assert len(generations) == 3


def test_the_slot_of_a_dead_client_waits_for_the_broker(directory, control, fds):
    dead = ClientSlot.take(directory, control, ROLE_PRODUCER, "dead")
    dead.after_fork()  # closes the lock as a death does, and frees nothing
    assert is_dead(fds[0], dead.slot)
    other = ClientSlot.take(directory, control, ROLE_PRODUCER, "other")
    assert other.slot != dead.slot
    assert lock_byte(fds[0], dead.slot)
    free_client(control, dead.slot)
    unlock_byte(fds[0], dead.slot)
    again = ClientSlot.take(directory, control, ROLE_PRODUCER, "again")
    assert again.slot == dead.slot
    other.release()
    again.release()


class DiedHereError(BaseException):
    pass


@pytest.mark.parametrize("name", ["_unlink_doorbell", "_create_doorbell"])
@pytest.mark.parametrize("before", [True, False])
def test_a_taker_that_dies_on_the_way_leaves_a_slot_that_can_be_taken(
    directory, control, monkeypatch, name, before
):
    real = getattr(liveness, name)

    def die(*args):
        if not before:
            real(*args)
        raise DiedHereError

    with monkeypatch.context() as patch:
        patch.setattr(liveness, name, die)
        with pytest.raises(DiedHereError):
            ClientSlot.take(directory, control, ROLE_PRODUCER, "dead")
    assert client_rows(control) == []
    taken = ClientSlot.take(directory, control, ROLE_PRODUCER, "next")
    assert taken.slot == 0
    taken.release()


def test_no_free_slot_is_said_with_the_way_out(directory, control, fds):
    for slot in range(LAYOUT["BUS_CLIENTS"]):
        lock_byte(fds[0], slot)
    for role, count in ((ROLE_PRODUCER, 960), (ROLE_REPLICA, 1024)):
        with pytest.raises(TooManyClientsError, match=f"all {count} client slots"):
            ClientSlot.take(directory, control, role, "late")


def test_programs_leave_slots_to_the_replicas(directory, control, fds):
    for slot in range(960):
        lock_byte(fds[0], slot)
    with pytest.raises(TooManyClientsError):
        ClientSlot.take(directory, control, ROLE_PRODUCER, "late")
    replica = ClientSlot.take(directory, control, ROLE_REPLICA, "replica")
    assert replica.slot == 1023
    replica.release()


def test_a_client_id_that_does_not_fit_is_refused_before_anything_is_taken(directory, control):
    with pytest.raises(BusConfigurationError):
        ClientSlot.take(directory, control, ROLE_PRODUCER, "x" * 100)
    assert client_rows(control) == []


def test_a_slot_that_is_dropped_without_release_counts_as_dead(directory, control, fds):
    ClientSlot.take(directory, control, ROLE_PRODUCER, "dropped")
    (row,) = client_rows(control)
    assert is_dead(fds[0], row.slot)
    free_client(control, row.slot)


@pytest.mark.parametrize("slot", [-1, 1024])
def test_a_slot_that_is_none_is_an_error_not_another_memory(control, slot):
    with pytest.raises(IndexError, match="client slot"):
        client_row(control, slot)


def test_a_forked_child_does_not_keep_its_dead_parent_alive(directory, control, fds):
    """The parent takes a slot, forks, and dies; its child lives on until the pipe is closed."""
    held, holding = os.pipe()
    running, started = os.pipe()
    parent = os.fork()
    if parent == 0:
        try:
            os.close(holding)
            taken = ClientSlot.take(directory, control, ROLE_PRODUCER, "parent")
            if os.fork() == 0:
                os.write(started, b"x")  # its own code runs: what it inherited is closed
                os.read(held, 1)
            assert taken.slot == 0
        finally:
            os._exit(0)
    os.close(held)
    os.waitpid(parent, 0)
    assert os.read(running, 1) == b"x"
    (row,) = client_rows(control)
    assert row.pid == parent
    assert is_dead(fds[0], row.slot)
    for fd in (holding, running, started):
        os.close(fd)
    free_client(control, row.slot)


def test_a_child_that_releases_its_parents_slot_frees_nothing(directory, control, fds):
    taken = ClientSlot.take(directory, control, ROLE_PRODUCER, "parent")
    child = os.fork()
    if child == 0:
        try:
            taken.release()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert client_row(control, taken.slot).attached
    assert not is_dead(fds[0], taken.slot)
    taken.release()


def test_no_doorbell_is_made_under_the_id_of_another_bus(directory, control):
    control.store_release(LAYOUT["bus_control.bus_id"], 0xDEADBEEF)
    with pytest.raises(CorruptSegmentError, match="it was overwritten"):
        ClientSlot.take(directory, control, ROLE_CONSUMER, "me")
    assert not [name for name in os.listdir("/dev/shm") if "00000000deadbeef" in name]
