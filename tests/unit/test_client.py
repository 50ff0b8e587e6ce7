"""Clients against real brokers: starting one, outliving one, forking, leaving."""

import contextlib
import gc
import os
import signal
import threading

import pytest

from bus.autostart import is_readable
from bus.client import Client
from bus.config import TopicConfig
from bus.control import ControlClient
from bus.directory import BusDirectory
from bus.errors import (
    BrokerNotRunningError,
    BusConfigurationError,
    BusError,
    ClosedError,
    DirectoryError,
    NamespaceError,
    UnknownTopicOrPartitionError,
    UnsupportedVersionError,
)
from bus.liveness import ROLE_ADMIN, ROLE_PRODUCER, client_row, is_dead
from bus.native.core import LAYOUT, Table
from tests.waiting import eventually


def attach(path, **options):
    options = {"role": ROLE_PRODUCER, "client_id": "test", "timeout_s": 20, **options}
    return Client.connect(path, **options)


@pytest.fixture
def client(bus_dir):
    with attach(bus_dir) as attached:
        yield attached


def kill_broker(client):
    """SIGKILL, and wait until it is gone; it is no child of this process."""
    pid = client.call("status")["broker"]["pid"]
    process = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    assert is_readable(process, 10)
    os.close(process)


def stop_bus(path):
    with BusDirectory.open(path) as directory:
        control = ControlClient(directory)
        control.call("stop")
        control.close()
        eventually(lambda: not is_listening(directory), what="the broker has ended")


def is_listening(directory):
    try:
        ControlClient(directory).close()
    except BrokerNotRunningError:
        return False
    return True


def test_the_first_client_starts_a_broker_that_is_no_child_of_it(bus_dir):
    with attach(bus_dir) as client:
        broker = client.call("status")["broker"]
        assert broker["pid"] != os.getpid()
        assert os.getpgid(broker["pid"]) != os.getpgid(0)
        with pytest.raises(ChildProcessError):
            os.waitpid(broker["pid"], os.WNOHANG)


def test_a_second_client_uses_the_same_broker(bus_dir, client):
    with attach(bus_dir) as second:
        assert second.slot.slot != client.slot.slot
        assert second.call("status")["broker"] == client.call("status")["broker"]


def test_racing_clients_all_attach_to_one_broker(bus_dir):
    barrier = threading.Barrier(4)
    epochs = []

    def race():
        barrier.wait()
        with attach(bus_dir) as client:
            epochs.append(client.call("status")["broker"]["epoch"])

    threads = [threading.Thread(target=race) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(epochs) == 4
    assert len(set(epochs)) == 1


def test_without_autostart_a_broker_must_be_there(tmp_path):
    with pytest.raises(DirectoryError, match="does not exist"):
        attach(tmp_path / "none", autostart=False)
    BusDirectory.create(tmp_path).close()
    with pytest.raises(BrokerNotRunningError, match="bus serve"):
        attach(tmp_path, autostart=False)


def test_a_broker_that_cannot_start_says_why(tmp_path):
    path = tmp_path / "bus"
    with BusDirectory.create(path) as directory:
        directory.topics_path.joinpath("t").mkdir(parents=True, mode=0o700)
    with pytest.raises(BusError, match=r"t/topic\.json and its copy are missing"):
        attach(path)


def test_the_client_is_in_the_table_until_it_is_closed(bus_dir, client):
    other = attach(bus_dir, client_id="other")
    slot = other.slot.slot
    assert client.describe_holder(slot) == f"pid {os.getpid()} (other)"
    other.close()
    other.close()
    assert not client_row(client.control, slot).attached
    assert other.closed
    for use in (lambda: other.call("status"), lambda: other.control, other.ensure):
        with pytest.raises(ClosedError, match="make another one"):
            use()


def test_a_client_dropped_without_close_is_reaped_by_the_broker(bus_dir, client):
    other = attach(bus_dir, client_id="dropped")
    slot = other.slot.slot
    with pytest.warns(ResourceWarning, match="unclosed"):
        del other
        gc.collect()
    eventually(lambda: not client_row(client.control, slot).attached, what="the slot is free")


def test_a_topic_is_created_on_demand_and_then_known(client):
    with pytest.raises(UnknownTopicOrPartitionError, match="bus topics create"):
        client.topic("t")
    topic = client.topic("t", create=True)
    assert client.topic("t") == topic
    assert client.topics() == [topic]


def test_a_change_of_a_topic_is_seen_by_the_next_look(bus_dir, client):
    client.topic("t", create=True)
    with attach(bus_dir, role=ROLE_ADMIN) as admin:
        admin.call("create_partitions", name="t", total=3)
        admin.call("alter_configs", name="t", configs={"retention.ms": "5"})
    assert client.topic("t").partitions == 3
    assert client.topic("t").config == TopicConfig(retention_ms=5)


def test_a_partition_is_attached_once(client):
    topic = client.topic("t", create=True)
    partition = client.partition(topic, 0)
    assert client.partition(topic, 0) is partition
    assert partition.log_end_offset == 0


@pytest.mark.parametrize("number", [-1, 1, 1024])
def test_a_partition_that_the_topic_does_not_have_is_refused(client, number):
    topic = client.topic("t", create=True)
    with pytest.raises(UnknownTopicOrPartitionError, match=f"no partition {number}: it has 0 to 0"):
        client.partition(topic, number)


def test_a_partition_of_a_deleted_topic_is_gone(client):
    topic = client.topic("t", create=True)
    client.call("delete_topics", names=["t"])
    with pytest.raises(UnknownTopicOrPartitionError):
        client.partition(topic, 0)


def test_a_partition_outlives_its_client_without_reading_foreign_files(bus_dir):
    with attach(bus_dir) as client:
        partition = client.partition(client.topic("t", create=True), 0)
    opened = os.open("/", os.O_RDONLY)
    assert os.path.isdir(f"/proc/self/fd/{partition.hot_fd}")
    assert partition.hot_fd != opened
    os.close(opened)


def test_a_client_outlives_a_broker_that_is_killed(client):
    topic = client.topic("t", create=True)
    partition = client.partition(topic, 0)
    slot = client.slot.slot
    kill_broker(client)
    assert client.topic("t") == topic
    assert client.call("status")["broker"]["epoch"] == 2
    assert client.slot.slot == slot
    assert client.partition(topic, 0) is partition
    assert client.attachments == 1


def test_a_new_broker_is_told_about_a_client_of_the_old_one(bus_dir, client):
    kill_broker(client)
    client.send("tend", topic="t", partition=0, need=0)
    with attach(bus_dir, client_id="second") as second:
        names = {row["client_id"] for row in second.call("status")["clients"]}
    assert names == {"test", "second"}


def test_without_autostart_a_lost_broker_is_an_error_each_time(bus_dir, client):
    with attach(bus_dir, autostart=False) as careful:
        kill_broker(client)
        for _ in range(2):
            with pytest.raises(BrokerNotRunningError):
                careful.call("status")
            with pytest.raises(BrokerNotRunningError):
                careful.send("tend")
        client.call("status")
        careful.call("status")


def test_after_a_clean_stop_the_client_attaches_to_the_new_bus(bus_dir, client):
    topic = client.topic("t", create=True)
    before = client.partition(topic, 0)
    stop_bus(bus_dir)
    assert client.stopping
    assert client.reconnect()
    assert client.attachments == 2
    assert not client.stopping
    assert client.partition(client.topic("t"), 0) is not before


def test_stopping_never_starts_a_broker(bus_dir, client):
    stop_bus(bus_dir)
    with pytest.raises(BrokerNotRunningError):
        client.call("stop")
    assert not is_listening(client.directory)


def test_a_forked_child_attaches_anew_and_leaves_the_parents_slot_alone(client):
    slot, generation = client.slot.slot, client.slot.generation
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            stale = client.stale
            anew = client.ensure()
            mine = (client.slot.slot, client.slot.generation)
            client.call("status")
            client.close()
            os.write(writer, f"{stale} {anew} {mine != (slot, generation)}".encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(writer)
    assert os.read(reader, 100) == b"True True True"
    os.close(reader)
    assert not client.stale
    assert not client.ensure()
    assert client_row(client.control, slot).generation == generation
    client.call("status")
    fd = client.directory.open_clients_lock()
    assert not is_dead(fd, slot)
    os.close(fd)


def test_a_child_that_only_closes_its_copy_leaves_the_parent_attached(client):
    pid = os.fork()
    if pid == 0:
        try:
            client.close()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert client_row(client.control, client.slot.slot).attached
    client.call("status")


def test_closing_gives_every_descriptor_back(bus_dir, client):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with attach(bus_dir) as other:
            other.partition(other.topic("t", create=True), 0)
    del other
    assert len(os.listdir("/proc/self/fd")) == before


@contextlib.contextmanager
def changed(client, field, value):
    """One word of bus.ctl, changed for a while."""
    with open(f"/proc/self/fd/{client.hot_fd}/bus.ctl", "r+b") as file:
        table = Table(file.fileno(), LAYOUT["sizeof.bus_control"])
    at = LAYOUT[f"bus_control.{field}"]
    word = bytes(table.view[at : at + 4])
    table.view[at : at + 4] = value.to_bytes(4, "little")
    yield
    table.view[at : at + 4] = word


@pytest.mark.parametrize(
    ("field", "kind", "message"),
    [
        ("version", UnsupportedVersionError, "layout version 7, this version of bus uses 1"),
        ("pid_namespace", NamespaceError, r"another pid namespace \(7, here it is"),
        ("magic", BusError, "wrong magic number"),
        ("bus_id", BusError, "does not belong to the bus"),
    ],
)
def test_a_bus_that_this_process_must_not_join_is_refused_with_its_cause(
    bus_dir, client, field, kind, message
):
    with changed(client, field, 7), pytest.raises(kind, match=message):
        attach(bus_dir)


@pytest.mark.parametrize("options", [{"role": 9}, {"client_id": ""}, {"client_id": "x" * 96}])
def test_a_bad_option_is_refused_before_anything_is_made(tmp_path, options):
    with pytest.raises(BusConfigurationError):
        attach(tmp_path / "bus", **options)
    assert not (tmp_path / "bus").exists()


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DirectoryError, match="file/bus"):
        attach(tmp_path / "file" / "bus")
