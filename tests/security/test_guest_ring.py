"""A guest cannot pin: it looks again, and believes nothing that has left the ring meanwhile."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus.errors import OffsetOutOfRangeError
from bus.native.core import GuestCursor, GuestLog
from tests.broker.hotlog import TOPIC_ID, HotLog

#: More than a guest copies at once.
RECORDS, RECORD_BYTES = 60, 10_000


@pytest.fixture
def hot(tmp_path: Path) -> Iterator[HotLog]:
    with HotLog(tmp_path) as made:
        made.append(*(bytes([i]) * RECORD_BYTES for i in range(RECORDS)))
        made.roll()
        yield made


def guest_of(hot: HotLog, opened: list[int], *, leaves_at: int = -1) -> GuestCursor:
    """A guest's cursor; while it opens file number `leaves_at`, that segment leaves the ring."""

    def open_file(serial: int) -> int:
        opened.append(serial)
        fd = os.open(hot.hot.path / f"{TOPIC_ID}-0.{serial}.seg", os.O_RDONLY)
        if len(opened) == leaves_at:
            leave(hot)
        return fd

    control = os.open(hot.hot.path / f"{TOPIC_ID}-0.ctl", os.O_RDONLY)
    try:
        return GuestCursor(GuestLog(control, TOPIC_ID, 0, open_file), "t", 0)
    finally:
        os.close(control)


def leave(hot: HotLog) -> None:
    """The sealed segment is given up: its file may be written over from now on."""
    hot.log.set_log_start(RECORDS)
    hot.log.retire_before(RECORDS)


def test_a_segment_that_leaves_the_ring_while_it_is_opened_is_not_read(hot: HotLog):
    guest = guest_of(hot, [], leaves_at=1)
    with pytest.raises(OffsetOutOfRangeError):
        guest.take(1)


def test_a_segment_that_leaves_the_ring_between_two_copies_is_not_read_on(hot: HotLog):
    guest = guest_of(hot, opened := [])
    first = guest.take(10)
    assert [bytes(one.view())[:1] for one in first] == [bytes([i]) for i in range(10)]
    leave(hot)
    rest = []
    with pytest.raises(OffsetOutOfRangeError):
        while records := guest.take(1):
            rest += records
    assert len(opened) == 1
    assert 0 < len(rest) < RECORDS - 10, "what was copied before is the guest's own"
