"""A ring slot that somebody overwrites is an error, whoever looks at it: no wait, no crash."""

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bus import files
from bus.errors import BusTimeoutError, CorruptSegmentError
from bus.native.core import LAYOUT, Partition
from tests.broker.hotlog import TOPIC_ID, Appender, HotLog

RING_SLOTS = LAYOUT["BUS_RING_SLOTS"]


@pytest.fixture
def hot(tmp_path: Path) -> Iterator[HotLog]:
    with HotLog(tmp_path) as made:
        made.append(b"0", b"1")
        made.rings.feed(made.log)
        yield made


class Ring:
    """The serials in the control page, as somebody sees them who may write to it."""

    def __init__(self, hot: HotLog) -> None:
        with (hot.hot.path / f"{TOPIC_ID}-0.ctl").open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), LAYOUT["sizeof.bus_partition"])
        ring, size = LAYOUT["bus_partition.ring"], LAYOUT["sizeof.bus_ring_slot"]
        first = ring + LAYOUT["bus_ring_slot.serial"]
        self._places = [first + slot * size for slot in range(RING_SLOTS)]
        self._saved = self.read()

    def read(self) -> list[int]:
        return [struct.unpack_from("<Q", self._page, place)[0] for place in self._places]

    def write(self, serials: list[int]) -> None:
        for place, serial in zip(self._places, serials, strict=True):
            struct.pack_into("<Q", self._page, place, serial)

    def flip(self) -> None:
        """Every slot that has a file names another one."""
        self.write([serial + 1000 if serial else 0 for serial in self.read()])

    def restore(self) -> None:
        self.write(self._saved)


def copied(log: Partition) -> tuple[int, int]:
    """How many bytes the replica copies, and the offset behind them."""
    taken, end, _, _ = log.copy(1, LAYOUT["BUS_DATA_START"], bytearray(4096), 0)
    return taken, end


def appended(hot: HotLog, log: Partition) -> int:
    log.blocked = give_up
    return int(Appender(hot.hot.control, [log]).send("t", b"another").offset)


def give_up(*_: object) -> None:
    raise BusTimeoutError("no room")


@pytest.mark.timeout(20)
def test_a_slot_that_names_another_file_at_each_look_is_an_error(
    hot: HotLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring, open_own = Ring(hot), files.open_own

    def open_late(name: str | Path, flags: int, **how: Any) -> int:
        if str(name).endswith(".seg"):
            ring.flip()
        return open_own(name, flags, **how)

    views = [hot.attach() for _ in range(3)]
    monkeypatch.setattr(files, "open_own", open_late)
    with pytest.raises(CorruptSegmentError, match="another file in slot 0 at each of 1000 looks"):
        copied(views[0])
    with pytest.raises(CorruptSegmentError, match="1000 looks"):
        appended(hot, views[1])
    with pytest.raises(CorruptSegmentError, match="1000 looks"):
        views[2].roll()
    monkeypatch.undo()
    ring.restore()
    assert copied(views[0])[1] == 2
    assert appended(hot, views[1]) == 2


@pytest.mark.timeout(20)
def test_a_slot_that_names_no_file_is_an_error(hot: HotLog) -> None:
    """Nothing is read from it, and nobody waits for it for ever."""
    ring, view = Ring(hot), hot.attach()
    ring.write([0] * RING_SLOTS)
    for act in (lambda: copied(view), lambda: view.segment_header(1, 0)):
        with pytest.raises(CorruptSegmentError, match="segment 1 has left the ring"):
            act()
    with pytest.raises(BusTimeoutError, match="no room"):
        appended(hot, view)
    assert not view.roll()
    ring.restore()
    assert copied(view)[1] == 2
    assert appended(hot, view) == 2
