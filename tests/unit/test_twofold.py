"""A small file of truth is believed if its checksum says so, for its place alone."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus import twofold
from bus.errors import CorruptSegmentError

NAME, SEAL = "state", "bus 1 state"
COPY = NAME + twofold.COPY_SUFFIX
VALUE = {"limit": 7, "start": 3}


@pytest.fixture
def dir_fd(tmp_path: Path) -> Iterator[int]:
    """A directory that holds both files."""
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    twofold.write(fd, NAME, VALUE, SEAL)
    yield fd
    os.close(fd)


def change(file: Path) -> None:
    """Another value under the old checksum."""
    content = json.loads(file.read_bytes())
    file.write_text(json.dumps({**content, "limit": 8}))


def test_what_was_written_is_read_back(dir_fd: int) -> None:
    assert twofold.read(dir_fd, NAME, SEAL) == twofold.Kept(VALUE)


@pytest.mark.parametrize("bad", [NAME, COPY])
def test_a_value_that_its_checksum_does_not_fit_is_not_believed(
    dir_fd: int, tmp_path: Path, bad: str
) -> None:
    change(tmp_path / bad)
    kept = twofold.read(dir_fd, NAME, SEAL)
    assert kept.value == VALUE
    assert "checksum" in (kept.trouble if bad == NAME else kept.copy_trouble)


def test_two_files_that_do_not_verify_are_an_error_and_no_value(
    dir_fd: int, tmp_path: Path
) -> None:
    change(tmp_path / NAME)
    change(tmp_path / COPY)
    with pytest.raises(CorruptSegmentError, match="bus check --repair"):
        twofold.read(dir_fd, NAME, SEAL)


def test_a_sound_file_of_another_place_is_not_believed(dir_fd: int) -> None:
    twofold.write(dir_fd, NAME, {"limit": 1, "start": 0}, "bus 2 state")
    with pytest.raises(CorruptSegmentError):
        twofold.read(dir_fd, NAME, SEAL)


def test_no_flipped_bit_gives_another_value(dir_fd: int, tmp_path: Path) -> None:
    data = (tmp_path / NAME).read_bytes()
    (tmp_path / COPY).unlink()
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            value = twofold.decode(bytes(flipped), SEAL)
        except (ValueError, RecursionError):
            continue
        assert value == VALUE, f"bit {bit}"  # in white space
