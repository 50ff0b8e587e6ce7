"""Files of a running bus are harmed while it is written and read: nothing acknowledged is lost.

BUS_DAMAGE=all tries every harm on every file; the default tries one of each kind.
"""

import os
from pathlib import Path
from typing import Final

import pytest

from bus.broker import Broker
from bus.native.core import LAYOUT
from tests.buses import bus_processes, end_bus
from tests.damage import harm
from tests.damage.rig import (
    RECORDS,
    Reader,
    counters,
    durable_files,
    filled_bus,
    hot_directory,
    hot_files,
    send_on,
)
from tests.waiting import eventually

ALL: Final = os.environ.get("BUS_DAMAGE") == "all"
MORE: Final = 15  # beyond the active segment


def chosen(*few: str) -> list[str]:
    return list(harm.SEGMENT_HARM) if ALL else list(few)


def read_all(path: Path, inside: Reader, end: int) -> tuple[Reader, Reader]:
    """A reader that was inside, and one that comes afterwards."""
    late = Reader(path)
    for reader in (inside, late):
        reader.read_to(end)
        reader.close()
    return inside, late


@pytest.mark.parametrize("which", [0, -1], ids=["sealed", "active"])
@pytest.mark.parametrize("kind", chosen("value", "directory"))
def test_a_hot_file_that_is_harmed_costs_no_record(tmp_path: Path, kind: str, which: int) -> None:
    path = tmp_path / "bus"
    with filled_bus(path) as producer:
        inside = Reader(path)
        inside.read(1)
        before = {process.pid for process in bus_processes(path)}
        harm.SEGMENT_HARM[kind](hot_files(path)[which])
        offsets = send_on(producer, MORE, RECORDS)
        acknowledged = [*range(RECORDS), *offsets]
        for reader in read_all(path, inside, offsets[-1] + 1):
            assert set(reader.offsets) >= set(acknowledged), reader.errors
            assert not set(reader.missed) & set(acknowledged)
        assert before <= {process.pid for process in bus_processes(path)}
    # An index that lies goes to disk with its segment, until the next scrub: it is a cache.
    assert not [line for line in end_bus(path) if "index entry" not in line]


@pytest.mark.parametrize("which", [0, -1], ids=["sealed", "active"])
@pytest.mark.parametrize("kind", chosen("value", "deleted"))
def test_a_durable_file_that_is_harmed_is_mended_from_ram(
    tmp_path: Path, kind: str, which: int
) -> None:
    path = tmp_path / "bus"
    with filled_bus(path) as producer:
        inside = Reader(path)
        inside.read(1)
        file = durable_files(path)[which]
        records = file.read_bytes()[LAYOUT["sizeof.bus_segment"] :]
        harm.SEGMENT_HARM[kind](file)

        def is_mended() -> bool:
            return file.is_file() and file.read_bytes()[LAYOUT["sizeof.bus_segment"] :] == records

        if kind in ("header", "magic", "index", "seal")[: 2 if which else 4]:
            eventually(lambda: counters(path)["damage_found"] > 0, 20)
        eventually(is_mended, 20, "the file has its records again")
        assert send_on(producer, MORE, RECORDS)[-1] == RECORDS + MORE - 1
        for reader in read_all(path, inside, RECORDS + MORE):
            assert reader.offsets == list(range(RECORDS + MORE)), reader.errors
    harm.remove(file.with_suffix(".log.damaged"))
    with Broker(path):  # from disk alone
        late = Reader(path)
        late.read_to(RECORDS + MORE)
        late.close()
        assert late.offsets == list(range(RECORDS + MORE))
    assert not end_bus(path)


CONTROL_HARM: Final = {
    "cut": harm.cut_all,
    "deleted": harm.delete,
    "zeroed": harm.zero,
    "zeros": harm.replace_by_zeros,
    "directory": harm.replace_by_a_directory,
    "magic": harm.flip_magic,
    "copied": harm.replace_by_its_copy,
}


@pytest.mark.parametrize("name", ["bus.ctl", "1-0.ctl"])
@pytest.mark.parametrize("kind", CONTROL_HARM if ALL else ("cut", "deleted"))
def test_a_control_file_that_is_harmed_moves_the_bus_and_costs_no_record(
    tmp_path: Path, kind: str, name: str
) -> None:
    path = tmp_path / "bus"
    with filled_bus(path) as producer:
        inside = Reader(path)
        inside.read(1)
        hot = hot_directory(path)
        before = hot.stat().st_ino
        CONTROL_HARM[kind](hot / name)

        def has_moved() -> bool:
            there = hot_directory(path) / name
            is_whole = there.is_file() and there.read_bytes()[:1] != b"\0"
            return is_whole and there.parent.stat().st_ino != before

        offsets = send_on(producer, MORE, RECORDS)
        eventually(has_moved, 40, "the bus is in another hot directory")
        for reader in read_all(path, inside, offsets[-1] + 1):
            assert set(range(RECORDS)) | set(offsets) <= set(reader.offsets), reader.errors
    assert not end_bus(path)


def test_two_copies_damaged_in_different_places_lose_nothing_and_in_one_place_that_record_alone(
    tmp_path: Path,
) -> None:
    path = tmp_path / "bus"
    with filled_bus(path, scrub_bytes_per_s=0):
        inside = Reader(path)
        inside.read(1)
        for which in (0, -1):
            hot, durable = hot_files(path)[which], durable_files(path)[which]
            first = int(durable.stem)
            for file, numbers in ((hot, (1, 3)), (durable, (2, 3))):
                for number in numbers:
                    harm.flip(file, harm.place_of(file, b"value %d " % (first + number) * 9))
        bad = [int(file.stem) + 3 for file in (durable_files(path)[0], durable_files(path)[-1])]
        for reader in read_all(path, inside, RECORDS):
            assert reader.missed == bad
            assert reader.offsets == [n for n in range(RECORDS) if n not in bad]
        assert counters(path)["repaired_reads"] > 0
    assert end_bus(path)  # two records are damaged on disk
