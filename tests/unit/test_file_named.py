"""What the core says of a file's name, against os.stat."""

import os
from pathlib import Path

import pytest

from bus.native.core import file_named


def test_a_file_is_named_by_device_inode_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"x" * 5000)
    (tmp_path / "link").symlink_to("one")
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    own = os.open(tmp_path / "one", os.O_RDONLY)
    try:
        stat, link = os.stat(own), os.lstat(tmp_path / "link")
        expected = (stat.st_dev, stat.st_ino, 5000)
        assert file_named(fd, "one") == file_named(own, "") == expected
        # A link in the place of a file is another file.
        assert file_named(fd, "link")[:2] == (link.st_dev, link.st_ino) != expected[:2]
        with pytest.raises(FileNotFoundError, match="two"):
            file_named(fd, "two")
    finally:
        os.close(own)
        os.close(fd)
