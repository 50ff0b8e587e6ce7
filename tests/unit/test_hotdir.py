"""A hot directory is adopted only when everything in it can be believed."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus import hot_place, hotdir
from bus.directory import BusDirectory, Runtime, boot_id
from bus.errors import NamespaceError, UnsafeDirectoryError
from bus.hot_place import CONTROL_FILE
from bus.hotdir import HotDirectory, open_or_create, wipe
from bus.liveness import lock_byte
from bus.native.core import LAYOUT


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[BusDirectory]:
    with BusDirectory.create(tmp_path / "bus") as directory:
        yield directory


def runtime(directory: BusDirectory, hot: HotDirectory, boot: str) -> Runtime:
    return Runtime(
        hot_dir=str(hot.path),
        epoch=1,
        pid=os.getpid(),
        boot_id=boot,
        hot_id=hot.hot_id,
        started="",
        version="",
    )


@pytest.fixture
def hot(directory: BusDirectory, tmp_path: Path) -> HotDirectory:
    """A published hot directory whose broker is gone."""
    hot, adopted = open_or_create(directory, tmp_path / "hot")
    assert not adopted
    hot.take_over(directory, 1, autostarted=False)
    directory.write_runtime(runtime(directory, hot, boot_id()))
    hot.publish()
    return hot


def again(directory: BusDirectory, tmp_path: Path) -> tuple[HotDirectory, bool]:
    return open_or_create(directory, tmp_path / "hot")


def test_a_whole_hot_directory_is_adopted(
    directory: BusDirectory, hot: HotDirectory, tmp_path: Path
) -> None:
    found, adopted = again(directory, tmp_path)
    assert adopted
    assert found.hot_id == hot.hot_id
    assert found.control.load_acquire(LAYOUT["bus_control.epoch"]) == 1


def test_one_of_another_boot_is_rebuilt(
    directory: BusDirectory, hot: HotDirectory, tmp_path: Path
) -> None:
    directory.write_runtime(runtime(directory, hot, "another"))
    found, adopted = again(directory, tmp_path)
    assert not adopted
    assert found.hot_id != hot.hot_id


@pytest.mark.parametrize("field", ["magic", "version", "bytes", "bus_id"])
def test_one_with_another_identity_is_rebuilt(
    directory: BusDirectory, hot: HotDirectory, tmp_path: Path, field: str
) -> None:
    with (hot.path / CONTROL_FILE).open("r+b") as file:
        file.seek(LAYOUT[f"bus_control.{field}"])
        file.write(b"\xff\xff")
    assert again(directory, tmp_path)[1] is False


def test_one_that_was_never_finished_is_rebuilt(
    directory: BusDirectory, hot: HotDirectory, tmp_path: Path
) -> None:
    (hot.path / CONTROL_FILE).rename(hot.path / hotdir.TEMPORARY_CONTROL_FILE)
    assert again(directory, tmp_path)[1] is False


def test_one_of_another_pid_namespace_is_refused_while_somebody_uses_it(
    directory: BusDirectory, hot: HotDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hotdir, "pid_namespace", lambda: 1)
    client = directory.open_clients_lock()
    assert lock_byte(client, 5)
    with pytest.raises(NamespaceError, match="another pid namespace"):
        again(directory, tmp_path)
    os.close(client)
    assert again(directory, tmp_path)[1] is False


def test_a_small_dev_shm_sends_the_hot_log_to_the_bus_directory(
    directory: BusDirectory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert hot_place.choose_path(directory, None) == directory.default_hot_path()
    monkeypatch.setattr(hot_place, "_free_bytes", lambda _: 64 << 20)
    with caplog.at_level("WARNING"):
        assert hot_place.choose_path(directory, None) == directory.fallback_hot_path()
    assert len(caplog.records) == 1
    assert "64 MiB free" in caplog.text


def test_a_directory_that_is_not_ours_alone_is_never_wiped(tmp_path: Path) -> None:
    tmp_path.joinpath("precious").mkdir()
    tmp_path.joinpath("precious").chmod(0o777)
    with pytest.raises(UnsafeDirectoryError):
        wipe(tmp_path / "precious")
    target = tmp_path / "target"
    target.mkdir(mode=0o700)
    tmp_path.joinpath("link").symlink_to(target)
    with pytest.raises(Exception, match="link"):
        wipe(tmp_path / "link")
    assert target.exists()
    wipe(tmp_path / "nothing")


def test_a_removal_that_was_cut_short_is_not_adopted(
    directory: BusDirectory,
    hot: HotDirectory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hot.path.joinpath("1-0.ctl").touch()
    real, left = os.unlink, [1]

    def dying(path: str, *, dir_fd: int | None = None) -> None:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        real(path, dir_fd=dir_fd)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "unlink", dying)
        hot.remove()
    assert hot.path.exists()
    assert again(directory, tmp_path)[1] is False


def test_a_copy_of_a_bus_cannot_take_the_hot_log_of_its_original(
    directory: BusDirectory, hot: HotDirectory, tmp_path: Path
) -> None:
    shutil.copytree(directory.path, tmp_path / "copy")
    tmp_path.joinpath("copy").chmod(0o700)
    with BusDirectory.open(tmp_path / "copy") as copy:
        with pytest.raises(UnsafeDirectoryError, match=r"is a copy of the bus in .*/bus"):
            again(copy, tmp_path)
        hot.remove()
        assert again(copy, tmp_path)[1] is False


def test_a_bus_that_was_moved_keeps_its_hot_log(
    directory: BusDirectory, hot: HotDirectory, tmp_path: Path
) -> None:
    directory.path.rename(tmp_path / "moved")
    with BusDirectory.open(tmp_path / "moved") as moved:
        assert again(moved, tmp_path)[1] is True


def test_a_directory_with_foreign_files_is_never_wiped(hot: HotDirectory) -> None:
    hot.path.joinpath("thesis.txt").touch()
    with pytest.raises(UnsafeDirectoryError, match=r"thesis\.txt"):
        wipe(hot.path)
    assert (hot.path / CONTROL_FILE).exists()
