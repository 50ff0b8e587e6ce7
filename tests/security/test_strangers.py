"""A private bus: another user of the machine can neither attach, read, signal nor squat."""

import ctypes
import faulthandler
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest

import bus
from bus.control import ControlClient
from bus.directory import BusDirectory
from bus.liveness import ROLE_CONSUMER, client_rows
from bus.supervisor import serve
from tests.bad_input.places import public_directory
from tests.buses import bus_processes, shared_objects
from tests.children import Fork
from tests.security.users import NOBODY, as_user


@pytest.fixture(scope="module")
def used(open_dir: Path) -> Path:
    """A bus with a broker that stays, one record, a group's commit, and every kind of file."""
    with bus.Producer(open_dir) as producer:
        producer.send("t", b"secret").get(timeout=10)
    consumer = bus.Consumer(
        "t", bootstrap_servers=open_dir, group_id="g", auto_offset_reset="earliest"
    )
    assert consumer.poll(timeout_ms=10_000)
    consumer.commit()
    consumer.close()
    return open_dir


def hot_directory(path: Path) -> Path:
    with BusDirectory.open(path) as directory:
        runtime = directory.read_runtime()
        assert runtime is not None
        return Path(runtime.hot_dir)


def everything(path: Path) -> list[Path]:
    """All files, directories, sockets and semaphores of a bus."""
    with BusDirectory.open(path) as directory:
        shared = [Path("/dev/shm", name) for name in shared_objects({directory.bus_id_hex})]
    found = [path, *path.rglob("*"), *shared]
    return found + [inner for outer in shared for inner in outer.rglob("*")]


def test_every_directory_is_0700_and_every_file_0600(used: Path) -> None:
    with bus.Producer(used):  # so that there is a doorbell
        for one in everything(used):
            mode = one.lstat().st_mode
            wanted = 0o700 if stat.S_ISDIR(mode) else 0o600
            assert stat.S_IMODE(mode) == wanted, f"{one} has mode {stat.S_IMODE(mode):04o}"
            assert one.lstat().st_uid == os.geteuid()


ATTEMPTS: dict[str, Callable[[Path], object]] = {
    "send": lambda path: bus.Producer(path),
    "read": lambda path: bus.Consumer("t", bootstrap_servers=path),
    "list": lambda path: bus.Admin(path),
    "run a broker": lambda path: serve(path),
    "stop it": lambda path: ControlClient(BusDirectory.open(path)).call("stop"),
}


@pytest.mark.parametrize("what", ATTEMPTS)
def test_another_user_cannot(used: Path, what: str) -> None:
    name, text = as_user(NOBODY, lambda: ATTEMPTS[what](used))
    assert name in {"ReadOnlyDirectoryError", "UnsafeDirectoryError"}, text
    assert str(used) in text


def test_another_user_can_open_none_of_the_files_and_enter_none_of_the_directories(
    used: Path,
) -> None:
    paths = everything(used)

    def opened() -> list[str]:
        found = []
        for path in paths:
            for flags in (os.O_RDONLY, os.O_WRONLY, os.O_PATH | os.O_DIRECTORY):
                try:
                    os.close(os.open(path, flags))
                except OSError:
                    continue
                if flags & os.O_PATH:  # O_PATH needs no permission on the last step: list it
                    try:
                        os.listdir(path)
                    except OSError:
                        continue
                found.append(f"{path} with {flags:o}")
        return found

    assert as_user(NOBODY, opened) == []


def test_another_user_can_signal_no_process_of_the_bus(used: Path) -> None:
    pids = [process.pid for process in bus_processes(used)]
    assert pids

    def signalled() -> list[int]:
        reached = []
        for pid in pids:
            for number in (0, signal.SIGKILL, signal.SIGSTOP):
                try:
                    os.kill(pid, number)
                except PermissionError:
                    continue
                reached.append(pid)
        return reached

    assert as_user(NOBODY, signalled) == []


def test_a_bus_whose_name_in_shared_memory_is_squatted_takes_a_random_one() -> None:
    """The owner is an unprivileged user, for root may remove what anybody has put there."""
    with public_directory() as parent:
        (parent / "home").mkdir()
        os.chown(parent / "home", NOBODY, NOBODY)
        path = parent / "home" / "bus"

        def hot_path() -> str:
            from bus.hotdir import open_or_create

            with BusDirectory.create(path) as directory:
                hot, adopted = open_or_create(directory, None)
                assert not adopted
                mode = stat.S_IMODE(hot.path.stat().st_mode)
                found = f"{hot.path} {mode:04o}"
                hot.remove()
                return found

        first = as_user(NOBODY, hot_path)
        squatted = Path(first.split()[0])
        squatted.mkdir(mode=0o777)
        try:
            os.mkfifo(squatted / "home")
            second = as_user(NOBODY, hot_path)
        finally:
            (squatted / "home").unlink()
            squatted.rmdir()
    assert first == f"{squatted} 0700"
    assert second.startswith(f"{squatted}-") and second.endswith(" 0700")


def test_doorbells_that_somebody_else_has_put_there_are_neither_rung_nor_in_the_way() -> None:
    with public_directory() as parent:
        (parent / "home").mkdir()
        os.chown(parent / "home", NOBODY, NOBODY)
        path = parent / "home" / "bus"
        squats: list[Path] = []

        def plant(name: str) -> None:
            squats.append(Path("/dev/shm", "sem." + name.removeprefix("/")))
            squats[-1].write_bytes(bytes(32))
            squats[-1].chmod(0o666)

        try:
            owner = as_user(NOBODY, lambda: _attach_twice(path, None))
            bus_id = owner["bus_id"]
            for slot in range(3):
                for generation in range(1, 40):
                    plant(f"/bus-{bus_id}-{owner['hot_id']}-{slot}-{generation}")
            plant(f"/bus-{bus_id}-junk")
            again = as_user(NOBODY, lambda: _attach_twice(path, owner["name"]))
        finally:
            for squat in squats:
                squat.unlink(missing_ok=True)
    assert again["names"] and set(again["names"]).isdisjoint(s.name for s in squats)
    assert again["rang"] == 0


def _attach_twice(path: Path, planted: str | None) -> dict[str, object]:
    """What an unprivileged owner sees of his doorbells; `planted` was his, and is no more."""
    from bus.doorbells import doorbells, unlink_doorbells
    from bus.hotdir import open_or_create
    from bus.liveness import ClientSlot
    from bus.native.core import Bells

    with BusDirectory.create(path) as directory:
        hot, _ = open_or_create(directory, None)
        hot.publish()
        try:
            slots = [ClientSlot.take(directory, hot.control, ROLE_CONSUMER, "me") for _ in range(2)]
            bells = Bells(hot.control)
            names = [bells.name(one.slot) for one in slots]
            assert sorted(doorbells(directory.bus_id_hex)) == sorted(names)
            for one in slots:
                bells.ring(one.slot)
                assert bells.wait(one.slot, 1000)
                one.release()
            unlink_doorbells(directory.bus_id_hex)
            rang = sum(Path("/dev/shm", f"sem.{planted}").read_bytes()) if planted else 0
            assert not client_rows(hot.control)
            return {
                "bus_id": directory.bus_id_hex,
                "hot_id": f"{hot.hot_id:016x}",
                "name": names[0].removeprefix("/"),
                "names": ["sem." + name.removeprefix("/") for name in names],
                "rang": rang,
            }
        finally:
            hot.remove()


def test_a_foreign_file_under_a_doorbells_name_is_not_mapped(used: Path) -> None:
    """Its owner could cut it short, and SIGBUS would end whoever rings."""
    with BusDirectory.open(used) as directory, bus.Consumer(bootstrap_servers=used) as consumer:
        client = consumer._fetcher.client
        name = client.bells.name(client.slot.slot)
        bell = Path("/dev/shm", f"sem.{name[1:]}")
        bell.unlink()
        as_user(NOBODY, lambda: bell.write_bytes(b"\1" + bytes(31)))
        bell.chmod(0o666)
        client.bells.ring(client.slot.slot)
        assert bell.read_bytes() == b"\1" + bytes(31)
        with pytest.raises(bus.errors.BrokerNotRunningError, match="doorbell is gone"):
            client.bells.wait(client.slot.slot, 100)
        bell.unlink()
        assert directory.bus_id


def test_who_writes_to_a_record_that_he_reads_dies_alone(used: Path, fork: Fork) -> None:
    def scribble(report: Callable[[object], None]) -> None:
        faulthandler.disable()  # the death is the outcome of the test
        consumer = bus.Consumer("t", bootstrap_servers=used, auto_offset_reset="earliest")
        [[record]] = consumer.poll(timeout_ms=10_000).values()
        view = record.view()
        report([bytes(view).decode(), view.readonly])
        address = numpy.frombuffer(view, dtype=numpy.uint8).ctypes.data
        ctypes.memset(address, 0xFF, 4)
        report("still alive")

    child = fork(scribble)
    assert child.next() == ["secret", True]
    assert child.wait() == -signal.SIGSEGV
    with bus.Consumer("t", bootstrap_servers=used, auto_offset_reset="earliest") as consumer:
        [[record]] = consumer.poll(timeout_ms=10_000).values()
        assert record.value == b"secret"


def test_the_hot_directory_is_closed_to_another_user_from_its_first_instant(used: Path) -> None:
    hot = hot_directory(used)
    assert stat.S_IMODE(hot.stat().st_mode) == 0o700
    assert as_user(NOBODY, lambda: os.listdir(hot))[0] == "PermissionError"


def test_another_user_cannot_link_a_file_of_the_bus_into_his_own_directory(used: Path) -> None:
    with public_directory() as parent:
        (parent / "loot").mkdir()
        os.chown(parent / "loot", NOBODY, NOBODY)
        source = used / "topics" / "t" / "0"

        def link() -> None:
            for name in ("replica.lock", "state.json"):
                os.link(source / name, parent / "loot" / name)

        assert as_user(NOBODY, link)[0] == "PermissionError"
