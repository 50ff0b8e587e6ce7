"""A broker as a process among others."""

import os
from pathlib import Path

from bus.daemon import Starter


def test_the_starter_is_told_once_and_no_other_file_gets_the_second_message(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    starter = Starter(writer)
    starter.tell({"pid": 1})
    assert os.read(reader, 100) == b'{"pid": 1}\n'
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    assert other == writer  # the descriptor has been given to another file
    starter.tell({"error": "NoSpaceError"})
    assert os.pread(other, 100, 0) == b""
    os.close(other)
    os.close(reader)
