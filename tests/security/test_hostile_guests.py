"""A hostile guest scribbles over all that it got, sends garbage, floods; nobody else notices."""

import contextlib
import ctypes
import faulthandler
import os
import random
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy
import psutil
import pytest

import bus
from bus.check import check_directory
from bus.guest import GuestClient
from bus.guest_producer import GuestProducer
from bus.guest_reader import GuestReader
from bus.incidents import Incidents
from bus.wire import CALL, HEADER, RECORD, pack, pack_json, receive_reply
from tests.buses import bus_processes
from tests.children import Fork, Report
from tests.security.users import ALICE, MALLORY, as_user, becoming
from tests.waiting import eventually

GUEST_MODULES = (GuestClient, GuestProducer, GuestReader)


@pytest.fixture(scope="module")
def shared(open_dir: Path) -> Iterator[Path]:
    """A bus whose topic `t` everybody may read and write."""
    with bus.Broker(open_dir), bus.Admin(open_dir) as admin:
        admin.create_topics({"t": {"configs": {"acl.read": "*", "acl.write": "*"}}, "own": {}})
        with bus.Producer(open_dir) as producer:
            producer.send_many("t", [b"%d" % n for n in range(50)]).get(timeout=10)
        eventually((open_dir / "guests.sock").exists)
        yield open_dir


def works(path: Path) -> bool:
    """The owner sends and reads, another guest too, and the checker finds nothing."""
    with bus.Producer(path) as producer:
        offset = producer.send("t", b"still here").get(timeout=10).offset

    def read() -> bool:
        place = bus.TopicPartition("t", 0)
        with bus.Consumer(bootstrap_servers=path) as consumer:
            consumer.assign([place])
            consumer.seek(place, offset)
            return bytes(consumer.poll(timeout_ms=10_000)[place][0].value) == b"still here"

    return read() and as_user(ALICE, read) is True and check_directory(path) == []


def counted(path: Path) -> int:
    """How many requests were refused, as the status of the bus says."""
    with bus.Admin(path) as admin:
        return Incidents(admin._client.control).counts()["request_refused"]


def test_who_scribbles_on_what_it_was_given_to_read_dies_alone(shared: Path, fork: Fork) -> None:
    def scribble(report: Report) -> None:
        faulthandler.disable()
        client = GuestClient(shared, role=2, client_id="mallory")
        fd = client.ask_for_file("hot", topic="t", partition=0, serial=1)
        size = os.fstat(fd).st_size
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        arguments = (None, ctypes.c_size_t(size), 3, 1, fd, ctypes.c_long(0))
        assert libc.mmap(*arguments) == ctypes.c_void_p(-1).value, "it was mapped for writing"
        report(os.strerror(ctypes.get_errno()))
        refused = 0
        for attempt in (
            lambda: os.open(f"/proc/self/fd/{fd}", os.O_RDWR),
            lambda: os.write(fd, b"x"),
            lambda: os.ftruncate(fd, 0),
            lambda: os.fchmod(fd, 0o666),
        ):
            try:
                attempt()
            except OSError:
                refused += 1
        report(refused)
        at = libc.mmap(None, ctypes.c_size_t(size), 1, 1, fd, ctypes.c_long(0))
        libc.mprotect.restype = ctypes.c_int
        report(libc.mprotect(ctypes.c_void_p(at), ctypes.c_size_t(size), 3))
        ctypes.memset(at + 12_288, 0xFF, 64)

    guest = fork(becoming(MALLORY, scribble))
    assert guest.next() == "Permission denied"
    assert guest.next() == 4
    assert guest.next() == -1
    assert guest.wait() == -signal.SIGSEGV
    assert works(shared)


def test_shared_or_not_no_file_of_the_bus_can_be_opened_by_another_user(shared: Path) -> None:
    paths = [path for path in shared.rglob("*") if path.name != "guests.sock"]
    assert len(paths) > 10

    def opened() -> list[str]:
        found = []
        for path in paths:
            for flags in (os.O_RDONLY, os.O_WRONLY):
                with contextlib.suppress(OSError):
                    os.close(os.open(path, flags))
                    found.append(str(path))
        with contextlib.suppress(OSError):
            found += os.listdir(shared)
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(shared / "broker.sock"))
            found.append("broker.sock")
        return found

    assert as_user(MALLORY, opened) == []


def connected(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(20)
    sock.connect(str(path / "guests.sock"))
    return sock


def _noise(dice: random.Random) -> bytes:
    return dice.randbytes(dice.randrange(1, 4000))


PATH_AS_SERIAL = {"topic": "t", "partition": 0, "serial": "1.seg/../../bus.ctl"}
#: it announces nine bytes of key, headers and value each, and has none
LYING = struct.pack("<BBHiqIII", 1, 0, 1, 0, 0, 9, 9, 9)

GARBAGE: dict[str, Callable[[random.Random], bytes]] = {
    "noise": _noise,
    "an endless message": lambda _: HEADER.pack(0xFFFFFFFF, CALL, 1),
    "an endless record": lambda _: HEADER.pack(0x7FFFFFFF, RECORD, 1),
    "an unknown kind": lambda _: pack(77, 1, b""),
    "no JSON": lambda dice: pack(CALL, 1, b"{" + dice.randbytes(100)),
    "deep JSON": lambda _: pack(CALL, 1, b"[" * 60_000),
    "a list": lambda _: pack(CALL, 1, b"[1]"),
    "odd arguments": lambda _: pack_json(CALL, 1, {"op": "hot", "args": {"path": "/etc/shadow"}}),
    "a path for a number": lambda _: pack_json(CALL, 1, {"op": "hot", "args": PATH_AS_SERIAL}),
    "a short record": lambda _: pack(RECORD, 1, b"x"),
    "a lying record": lambda _: pack(RECORD, 1, LYING),
}


@pytest.mark.parametrize("what", GARBAGE)
def test_who_sends_garbage_is_cut_off_and_counted(shared: Path, what: str) -> None:
    before = counted(shared)

    def send() -> str:
        with connected(shared) as sock, contextlib.suppress(OSError):
            sock.sendall(GARBAGE[what](random.Random(7)))
            sock.shutdown(socket.SHUT_WR)
            while data := sock.recv(1 << 16):
                assert data
        return "cut off"

    # a user for each kind: one that is caught too often is turned away at the door
    uid = MALLORY + 1 + sorted(GARBAGE).index(what)
    assert as_user(uid, send) == "cut off"
    eventually(lambda: counted(shared) > before)
    assert works(shared)


def test_names_are_no_paths_and_serials_no_names(shared: Path) -> None:
    def probe() -> list[str]:
        found = []
        client = GuestClient(shared, role=2, client_id="mallory")
        for name in ("../t", "t/../own", "own", "", "t\0", "~old-1", "." * 300):
            for op in ("partition", "hot", "durable"):
                more = {"serial": 1} if op == "hot" else {"offset": 0} if op == "durable" else {}
                try:
                    client.ask_for_file(op, topic=name, partition=0, **more)
                    found.append(f"{op} {name}")
                except (bus.errors.BusError, FileNotFoundError):
                    continue
        return found

    assert as_user(MALLORY, probe) == []


def test_a_user_with_too_many_connections_is_refused_and_others_are_not(shared: Path) -> None:
    from bus.gateway import USER_CONNECTIONS_MAX

    def open_many() -> list[int]:
        held = [connected(shared) for _ in range(USER_CONNECTIONS_MAX + 3)]
        refused = [receive_reply(sock).json()["error"] for sock in held[USER_CONNECTIONS_MAX:]]
        assert set(refused) == {"TooManyClientsError"}
        return [len(refused), os.getpid()]

    assert as_user(MALLORY + 50, open_many)[0] == 3
    assert works(shared)


def test_who_offends_again_and_again_is_turned_away_for_a_while(shared: Path) -> None:
    from bus.gateway import OFFENCES_MAX

    def offend() -> str:
        for _ in range(OFFENCES_MAX):
            with connected(shared) as sock:
                sock.sendall(pack(77, 1, b""))
                assert not sock.recv(1)
        with connected(shared) as sock:
            return str(receive_reply(sock).json()["message"])

    assert "too much nonsense" in as_user(MALLORY + 51, offend)
    assert works(shared)


def test_a_gateway_that_is_killed_is_started_again_and_guests_go_on(
    shared: Path, fork: Fork
) -> None:
    def read(report: Report) -> None:
        with bus.Consumer("t", bootstrap_servers=shared, consumer_timeout_ms=40_000) as consumer:
            consumer.poll()
            report("waiting")
            for record in consumer:
                report(bytes(record.value).decode())
                if bytes(record.value) == b"after":
                    return

    guest = fork(becoming(ALICE, read))
    assert guest.next() == "waiting"
    [gateway] = _gateways(shared)
    gateway.send_signal(signal.SIGKILL)
    eventually(lambda: _gateways(shared) and _gateways(shared)[0].pid != gateway.pid)
    with bus.Producer(shared) as producer:
        producer.send("t", b"after").get(timeout=10)
    assert guest.next() == "after"
    assert guest.wait() == 0


def _gateways(path: Path) -> list[psutil.Process]:
    return [one for one in bus_processes(path) if "bus.gateway" in one.cmdline()]


def test_a_revoked_guest_is_told_at_its_next_poll_and_gets_no_further_file(
    shared: Path, fork: Fork
) -> None:
    def read(report: Report) -> None:
        consumer = bus.Consumer("closing", bootstrap_servers=shared, auto_offset_reset="earliest")
        report(len(consumer.poll(timeout_ms=5000)))
        try:
            while True:
                consumer.poll(timeout_ms=1000)
        except bus.errors.TopicAuthorizationFailedError as error:
            report(str(error))

    with bus.Admin(shared) as admin, bus.Producer(shared) as producer:
        admin.create_topics({"closing": {"configs": {"acl.read": f"user:{ALICE}"}}})
        producer.send("closing", b"x").get(timeout=10)
        guest = fork(becoming(ALICE, read))
        assert guest.next() == 1
        admin.alter_configs({"closing": {"acl.read": ""}})
        assert f"user {ALICE} may not read topic 'closing'" in guest.next()
        assert guest.wait() == 0


def test_a_misspelt_user_is_refused_when_the_acl_is_set(shared: Path) -> None:
    with bus.Admin(shared) as admin:
        with pytest.raises(bus.errors.BusConfigurationError, match="no user 'alcie'"):
            admin.alter_configs({"t": {"acl.read": "user:alcie"}})
        with pytest.raises(bus.errors.BusConfigurationError, match="is no entry of an ACL"):
            admin.alter_configs({"t": {"acl.read": "alice"}})


def test_a_guest_reads_what_left_the_ring_and_what_is_recycled_under_its_eyes(
    shared: Path, fork: Fork
) -> None:
    """Small ring, a fast owner, a slow guest: every record once, in order, from both tiers."""
    count, size = 400, 64 << 10

    def read(report: Report) -> None:
        consumer = bus.Consumer("deep", bootstrap_servers=shared, auto_offset_reset="earliest")
        seen = 0
        report("reading")
        while seen < count:
            for records in consumer.poll(timeout_ms=10_000, max_records=20).values():
                for record in records:
                    assert record.offset == seen
                    assert numpy.frombuffer(record, dtype=numpy.uint8).max() == seen % 251
                    seen += 1
        report(seen)

    with bus.Admin(shared) as admin, bus.Producer(shared) as producer:
        configs = {"acl.read": "*", "hot.bytes": 4 << 20, "segment.bytes": 1 << 20}
        admin.create_topics({"deep": {"configs": configs}})
        guest = fork(becoming(ALICE, read))
        assert guest.next() == "reading"
        for number in range(count):
            producer.send("deep", bytes([number % 251]) * size)
        producer.flush(timeout=30)
        assert guest.next(40) == count
        assert guest.wait() == 0
