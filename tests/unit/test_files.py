"""Files: opened safely, replaced as a whole, and errors that name the path."""

import errno
import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus import files
from bus.errors import (
    BusError,
    CorruptSegmentError,
    DirectoryError,
    NoSpaceError,
    ReadOnlyDirectoryError,
    UnsafeDirectoryError,
)


@pytest.fixture
def root(tmp_path):
    path = tmp_path / "root"
    fd = files.open_directory(path, create=True)
    yield path, fd
    os.close(fd)


def descriptors():
    return set(os.listdir("/proc/self/fd"))


def test_a_directory_is_made_for_its_owner_alone(root):
    path, _ = root
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_file_is_made_for_its_owner_alone(root):
    path, fd = root
    os.close(files.open_file("f", os.O_RDWR | os.O_CREAT, dir_fd=fd))
    assert stat.S_IMODE((path / "f").stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_what_others_may_write_is_refused_with_the_command_that_helps(root, mode):
    path, fd = root
    (path / "d").mkdir()
    (path / "d").chmod(mode)
    (path / "f").touch()
    (path / "f").chmod(mode)
    before = descriptors()
    with pytest.raises(UnsafeDirectoryError, match=f"chmod go-w {path / 'd'}"):
        files.open_directory("d", dir_fd=fd)
    with pytest.raises(UnsafeDirectoryError, match=f"chmod go-w {path / 'f'}"):
        files.open_file("f", dir_fd=fd)
    assert descriptors() == before


def test_what_belongs_to_another_user_is_refused(root, monkeypatch):
    path, fd = root
    (path / "f").touch(0o600)
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    with pytest.raises(UnsafeDirectoryError, match="this process runs as 54321"):
        files.open_directory(path)
    with pytest.raises(UnsafeDirectoryError, match="use a directory of your own"):
        files.open_file("f", dir_fd=fd)


def test_a_symbolic_link_is_not_followed(root):
    path, fd = root
    (path / "real").mkdir(0o700)
    (path / "file").touch(0o600)
    (path / "d").symlink_to("real")
    (path / "f").symlink_to("file")
    with pytest.raises(DirectoryError, match="symbolic link"):
        files.open_directory("d", dir_fd=fd)
    with pytest.raises(UnsafeDirectoryError, match="symbolic link"):
        files.open_file("f", dir_fd=fd)


def test_a_fifo_in_the_place_of_a_file_is_refused_and_does_not_hang(root):
    path, fd = root
    os.mkfifo(path / "f", 0o600)
    with pytest.raises(UnsafeDirectoryError, match="not a regular file"):
        files.open_file("f", os.O_RDONLY, dir_fd=fd)


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        (errno.ENOSPC, NoSpaceError, "no space left"),
        (errno.EDQUOT, NoSpaceError, "no space left"),
        (errno.EROFS, ReadOnlyDirectoryError, "read-only filesystem"),
        (errno.EACCES, ReadOnlyDirectoryError, "check the owner and mode"),
        (errno.EPERM, ReadOnlyDirectoryError, "check the owner and mode"),
        (errno.ELOOP, UnsafeDirectoryError, "symbolic link"),
        (errno.ENOENT, DirectoryError, "does not exist"),
        (errno.ENOTDIR, DirectoryError, "not a directory"),
        (errno.EIO, DirectoryError, "Input/output error"),
    ],
)
def test_an_error_of_the_system_names_the_path_and_keeps_its_cause(code, kind, message):
    cause = OSError(code, os.strerror(code))
    with pytest.raises(kind, match=message) as caught, files.explained("/srv/data/x"):
        raise cause
    assert "/srv/data/x" in str(caught.value)
    assert caught.value.__cause__ is cause


def test_an_error_of_the_bus_is_not_explained_again():
    with pytest.raises(ReadOnlyDirectoryError, match=r"^first$"), files.explained("x"):
        raise ReadOnlyDirectoryError("first")


def test_a_full_filesystem_is_a_typed_error(root, monkeypatch):
    _, fd = root

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    file_fd = files.open_file("f", os.O_RDWR | os.O_CREAT, dir_fd=fd)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(NoSpaceError, match=r"root/f \(4096 bytes\)"):
        files.allocate(file_fd, 4096)
    os.close(file_fd)


def test_allocated_bytes_have_storage(root):
    _, fd = root
    file_fd = files.open_file("f", os.O_RDWR | os.O_CREAT, dir_fd=fd)
    files.allocate(file_fd, 1 << 16)
    status = os.fstat(file_fd)
    os.close(file_fd)
    assert status.st_size == 1 << 16
    assert status.st_blocks * 512 >= 1 << 16


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(value=st.dictionaries(st.text("abc"), JSON), durable=st.booleans())
def test_json_comes_back_as_it_was_written(tmp_path_factory, value, durable):
    fd = files.open_directory(tmp_path_factory.mktemp("json"))
    files.write_json(fd, "f", value, durable=durable)
    assert files.read_json(fd, "f") == value
    assert os.listdir(fd) == ["f"]
    os.close(fd)


def test_a_missing_file_reads_as_none(root):
    _, fd = root
    assert files.read_json(fd, "f") is None


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"7", b"[" * 100_000])
def test_json_that_is_no_object_is_corrupt(root, content):
    path, fd = root
    (path / "f").write_bytes(content)
    with pytest.raises(CorruptSegmentError, match="root/f"):
        files.read_json(fd, "f")


def test_a_file_that_is_far_too_large_is_not_read(root):
    path, fd = root
    with (path / "f").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(CorruptSegmentError, match="larger than"):
        files.read_json(fd, "f")


def test_a_new_file_is_made_once_and_the_first_one_stays(root):
    path, fd = root
    assert files.write_new(fd, "f", b"first")
    assert not files.write_new(fd, "f", b"second")
    assert (path / "f").read_bytes() == b"first"
    assert os.listdir(path) == ["f"]


def test_a_failed_replacement_leaves_the_old_file_and_nothing_else(root, monkeypatch):
    path, fd = root
    files.write_atomic(fd, "f", b"old")

    def fail(_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(BusError, match="Input/output error"):
        files.write_atomic(fd, "f", b"new")
    assert (path / "f").read_bytes() == b"old"
    assert os.listdir(path) == ["f"]


def test_what_a_killed_writer_left_is_swept_and_nothing_else(root):
    path, fd = root
    for name in (".f.1234-0.tmp", "f", ".hidden", "x.tmp"):
        (path / name).touch()
    files.sweep_temporary(fd)
    assert sorted(os.listdir(path)) == [".hidden", "f", "x.tmp"]
