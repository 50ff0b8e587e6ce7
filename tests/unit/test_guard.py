"""What the broker notices of its shared pages, without a broker."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bus.guard import Guard
from bus.hotdir import CONTROL_FILE
from bus.native.core import LAYOUT

FILE_BYTES = LAYOUT["sizeof.bus_control"] + LAYOUT["BUS_MOAT_BYTES"] + LAYOUT["BUS_CANARY_BYTES"]


def write_page(path: Path) -> None:
    with open(path, "xb") as file:
        file.truncate(FILE_BYTES)
    path.chmod(0o600)


def test_the_same_bytes_in_another_file_under_the_name_of_the_page_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_page(tmp_path / CONTROL_FILE)
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        hot = SimpleNamespace(fd=fd, control=SimpleNamespace(view=bytes(FILE_BYTES)))
        nobody = SimpleNamespace(partitions=lambda: ())
        guard = Guard(cast(Any, hot), cast(Any, nobody), cast(Any, None), epoch=1, pause_s=1.0)
        monkeypatch.setattr(guard, "_wrong_in_control", lambda: iter(()))
        assert guard.look() == []
        write_page(tmp_path / "the same")
        os.rename(tmp_path / "the same", tmp_path / CONTROL_FILE)
        (spoiled,) = guard.look()
        assert spoiled.file == CONTROL_FILE
        assert "another file has its name" in spoiled.what
    finally:
        os.close(fd)
