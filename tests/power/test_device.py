"""The disk of the tests of power has an end to everything: a test of it fails, and never waits."""

import ctypes
import errno
import os
import time
from pathlib import Path

import pytest

from tests.power import device
from tests.power.device import logged_disk

PAGE = b"p" * 4096


def test_a_disk_that_hangs_answers_after_its_longest_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "HANG_S_MAX", 0.3)
    with logged_disk(tmp_path, bytes(1 << 20)) as (disk, _):
        (tmp_path / "hanging").touch()
        began = time.monotonic()
        fd = os.open(disk, os.O_WRONLY)
        try:
            os.write(fd, PAGE)
        finally:
            os.close(fd)
        assert time.monotonic() - began >= 0.3
        (tmp_path / "hanging").unlink()


def test_a_disk_that_somebody_keeps_open_is_taken_away_from_him_and_the_test_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "END_S", 0.3)
    fd = -1
    with (
        pytest.raises(AssertionError, match="the last user of the disk goes"),
        logged_disk(tmp_path, bytes(1 << 20)) as (disk, _),
    ):
        fd = os.open(disk, os.O_RDWR)
    with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
        os.pwrite(fd, PAGE, 0)
    libc = ctypes.CDLL(None)
    assert libc.close(fd) in (0, -1)  # the flush at its close finds nobody any more
