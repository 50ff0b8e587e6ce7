"""What somebody has put in the place of a file of the bus is refused, whatever it is."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

import bus
from bus import replica_lock
from bus.check import check_directory
from bus.directory import BusDirectory
from bus.durable import list_segments, open_dir, open_segment
from bus.errors import BusError, UnsafeDirectoryError
from bus.offsets import OffsetTable
from tests.security.test_strangers import hot_directory
from tests.security.users import NOBODY

Plant = Callable[[Path], None]


def _symlink(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to(path.with_name("moved"))


def _hard_link(path: Path) -> None:
    os.link(path, path.with_name("second"))


def _fifo(path: Path) -> None:
    path.rename(path.with_name("moved"))
    os.mkfifo(path, 0o600)


def _foreign(path: Path) -> None:
    os.chown(path, NOBODY, NOBODY)


def _open_to_all(path: Path) -> None:
    path.chmod(0o666)


PLANTS: Final[dict[str, Plant]] = {
    "a symbolic link": _symlink,
    "a hard link": _hard_link,
    "a FIFO": _fifo,
    "a file of another user": _foreign,
    "a file that all may write": _open_to_all,
}


def _undo(path: Path, before: os.stat_result) -> None:
    """So that the bus can end in order."""
    path.with_name("second").unlink(missing_ok=True)
    if path.with_name("moved").exists():
        path.unlink()
        path.with_name("moved").rename(path)
    os.chown(path, before.st_uid, before.st_gid)
    path.chmod(before.st_mode & 0o7777)


def _attach(path: Path) -> None:
    bus.Consumer("t", bootstrap_servers=path).close()


def _read(path: Path) -> None:
    with bus.Consumer("t", bootstrap_servers=path, auto_offset_reset="earliest") as consumer:
        consumer.poll(timeout_ms=5_000)


def _join(path: Path) -> None:
    with bus.Consumer("t", bootstrap_servers=path, group_id="g") as consumer:
        consumer.poll()


def _open_segment(path: Path) -> None:
    with open_dir(path / "topics" / "t" / "0") as fd:
        os.close(open_segment(fd, list_segments(fd)[0]))


def _open_offsets(path: Path) -> None:
    with BusDirectory.open(path) as directory:
        fd = directory.open_groups()
        try:
            OffsetTable.open(fd, "g").close()
        finally:
            os.close(fd)


def _replica_lock(path: Path) -> None:
    with open_dir(path / "topics" / "t" / "0") as fd:
        replica_lock.holder(fd)


#: which file, and who opens it
OPENED: Final[dict[str, Callable[[Path], None]]] = {
    "clients.lock": _attach,
    "runtime.json": _attach,
    "topics/t/topic.json": _attach,
    "topics/t/0/00000000000000000000.log": _open_segment,
    "topics/t/0/replica.lock": _replica_lock,
    "groups/g.offsets": _open_offsets,
    "HOT/bus.ctl": _attach,
    "HOT/1-0.ctl": _read,
    "HOT/1-0.1.seg": _read,
    "HOT/group-2.ctl": _join,
}


@pytest.fixture
def used(bus_dir: Path) -> Path:
    with bus.Producer(bus_dir) as producer:
        producer.send("t", b"x").get(timeout=10)
    _join(bus_dir)
    return bus_dir


def test_in_the_place_of_any_file_any_plant_is_refused(used: Path) -> None:
    accepted = []
    for name, opened_by in OPENED.items():
        path = hot_directory(used) / name[4:] if name.startswith("HOT/") else used / name
        opened_by(used)  # as it stands
        before = path.lstat()
        for what, plant in PLANTS.items():
            plant(path)
            try:
                opened_by(used)
            except UnsafeDirectoryError as error:
                if path.name not in str(error):
                    accepted.append(f"{what} for {name}: the error names another file: {error}")
            except BusError as error:
                accepted.append(f"{what} for {name}: {error!r}")
            else:
                accepted.append(f"{what} for {name}: it was opened")
            finally:
                _undo(path, before)
    assert accepted == []


def test_the_checker_says_so_too(used: Path) -> None:
    segment = used / "topics/t/0/00000000000000000000.log"
    os.link(segment, used / "second")
    assert any("has 2 names (hard links)" in str(damage) for damage in check_directory(used))
    (used / "second").unlink()
    assert check_directory(used) == []


def test_a_bus_made_by_a_process_that_died_between_two_names_can_be_opened(tmp_path: Path) -> None:
    """bus.json is linked into place: a death leaves its temporary name, which is not a plant."""
    with BusDirectory.create(tmp_path / "bus") as directory:
        os.link(directory.path / "bus.json", directory.path / ".bus.json.1-1.tmp")
        with BusDirectory.create(tmp_path / "bus") as again:
            assert again.bus_id == directory.bus_id


def test_a_bus_directory_that_is_a_symbolic_link_is_followed_once_and_never_below(
    used: Path, tmp_path: Path
) -> None:
    """The address is resolved when it is given; after that no step may be a link."""
    (tmp_path / "link").symlink_to(used)
    _read(tmp_path / "link")
    topic = used / "topics" / "t"
    topic.rename(tmp_path / "t")
    topic.symlink_to(tmp_path / "t")
    with pytest.raises(bus.errors.DirectoryError, match="symbolic link"):
        _read(used)
    topic.unlink()
    (tmp_path / "t").rename(topic)
