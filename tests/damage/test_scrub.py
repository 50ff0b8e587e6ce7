"""What rots in a durable file, or goes with it, is found by the scrub, and mended from RAM."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus.durable import DATA_START, segment_name
from bus.errors import CorruptSegmentError
from bus.incidents import Incidents
from bus.liveness import lock_byte, unlock_byte
from bus.native.core import LAYOUT
from bus.scrub import SCRUB_BYTE, Scrubber, ScrubRate
from tests.broker.hotlog import HotLog, drain
from tests.damage import harm
from tests.waiting import eventually

SEGMENTS = 3
RECORDS = 40
INDEX = slice(LAYOUT["bus_segment.index"], DATA_START)


class Rig:
    """Three sealed segments that are hot and durable, and a fourth that is being written."""

    def __init__(self, root: Path) -> None:
        self.hot = HotLog(root)
        self.follower = self.hot.follower()
        self.follower.resume()
        for segment in range(SEGMENTS + 1):
            self.hot.append(*(b"value %d %d" % (segment, n) * 30 for n in range(RECORDS)))
            if segment < SEGMENTS:
                self.hot.roll()
            drain(self.follower)
        self.files = [self.hot.durable / segment_name(n * RECORDS) for n in range(SEGMENTS + 1)]
        self.before = [file.read_bytes() for file in self.files]
        self.incidents = Incidents(self.hot.hot.control)
        self.dir_fd = os.open(self.hot.durable, os.O_RDONLY | os.O_DIRECTORY)
        self.lock_fd = self.hot.directory.open_lock("broker.lock")
        self.scrubber = self.another_scrubber()

    def another_scrubber(
        self, *, interval_s: float = 3600, bytes_per_s: float = 1 << 40
    ) -> Scrubber:
        """As the replica's next start has it."""
        return Scrubber(
            self.hot.log,
            self.dir_fd,
            self.lock_fd,
            ScrubRate(interval_s, bytes_per_s),
            self.incidents,
            name="t-0",
            newest=lambda: self.follower.newest,
            copy_newest=self.follower.copy_newest,
        )

    def counts(self) -> tuple[int, int, int]:
        """Damage found, repaired, gaps reported."""
        counts = self.incidents.counts()
        return counts["damage_found"], counts["damage_repaired"], counts["gap_reported"]

    def cool(self, number: int) -> None:
        """As if the ring had given the file of a segment to a later one."""
        self.hot.log.retire_before((number) * RECORDS)

    def close(self) -> None:
        self.scrubber.close()
        self.follower.close()
        os.close(self.dir_fd)
        os.close(self.lock_fd)
        self.hot.__exit__()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.close()


def test_what_is_sound_is_left_alone(rig: Rig) -> None:
    inodes = [file.stat().st_ino for file in rig.files]
    rig.scrubber.run_pass()
    assert rig.counts() == (0, 0, 0)
    assert [file.stat().st_ino for file in rig.files] == inodes
    assert [file.read_bytes() for file in rig.files] == rig.before


@pytest.mark.parametrize("segment", [0, 1])
@pytest.mark.parametrize("kind", harm.SEGMENT_HARM)
def test_a_sealed_file_gets_its_bytes_back_from_ram(rig: Rig, kind: str, segment: int) -> None:
    file = rig.files[segment]
    harm.SEGMENT_HARM[kind](file)
    rig.scrubber.run_pass()
    assert file.read_bytes() == rig.before[segment]
    assert rig.counts() == (1, 1, 0)
    rig.scrubber.run_pass()
    assert rig.counts() == (1, 1, 0)
    assert not list(rig.hot.durable.glob("*.tmp"))


@pytest.mark.parametrize(
    "kind", [kind for kind in harm.SEGMENT_HARM if kind not in ("index", "seal")]
)
def test_the_file_that_is_being_written_is_copied_anew(rig: Rig, kind: str) -> None:
    file = rig.files[-1]
    records = rig.before[-1][DATA_START:]
    harm.SEGMENT_HARM[kind](file)
    rig.scrubber.run_pass()
    drain(rig.follower)
    assert file.read_bytes()[DATA_START:] == records
    rig.hot.append(b"more")
    drain(rig.follower)
    assert rig.hot.log.high_watermark == rig.hot.log.log_end_offset
    rig.another_scrubber().run_pass()
    assert rig.hot.durable_ends()[SEGMENTS * RECORDS] == ((SEGMENTS + 1) * RECORDS + 1, False)


def test_two_copies_damaged_in_different_places_make_a_whole_one(rig: Rig) -> None:
    hot = rig.hot.segment_file(2)
    for copy, records in ((rig.files[1], (3, 17, 39)), (hot, (0, 4, 16, 38))):
        for record in records:
            harm.flip(copy, harm.place_of(copy, b"value 1 %d" % record * 3))
    rig.scrubber.run_pass()
    assert rig.files[1].read_bytes() == rig.before[1]
    assert rig.counts() == (1, 1, 0)


def test_a_record_damaged_in_both_is_a_gap_and_the_others_are_mended(rig: Rig) -> None:
    hot = rig.hot.segment_file(2)
    place = harm.place_of(hot, b"value 1 7" * 3)
    for copy, records in ((rig.files[1], (7, 20)), (hot, (7, 30))):
        for record in records:
            harm.flip(copy, harm.place_of(copy, b"value 1 %d" % record * 3))
    rig.scrubber.run_pass()
    mended = bytearray(rig.files[1].read_bytes())
    mended[place] ^= 0x10
    assert bytes(mended) == rig.before[1]
    assert rig.counts() == (1, 1, 1)
    rig.scrubber.run_pass()
    assert rig.counts() == (1, 1, 1)


@pytest.mark.parametrize("kind", harm.SEGMENT_HARM)
def test_what_nothing_can_mend_is_told_once_and_left_as_evidence(rig: Rig, kind: str) -> None:
    file = rig.files[1]
    rig.cool(2)
    harm.SEGMENT_HARM[kind](file)
    after = file.read_bytes() if file.is_file() else None
    rig.scrubber.run_pass()
    rig.scrubber.run_pass()
    found, repaired, gaps = rig.counts()
    if kind in ("index", "seal"):  # what they say stands in the frames
        assert (found, repaired, gaps) == (1, 1, 0)
    else:
        assert (repaired, gaps) == (0, 1)
        assert (file.read_bytes() if file.is_file() else None) == after


def test_a_scrubber_that_knows_another_bus_spoils_nothing(rig: Rig) -> None:
    """As after a stray write over the identity in the control page."""
    path = rig.hot.hot.path / "1-0.ctl"
    harm.flip(path, LAYOUT["bus_partition.bus_id"])
    with pytest.raises(CorruptSegmentError, match="control page does not say what it said"):
        rig.scrubber.run_pass()
    assert [file.read_bytes() for file in rig.files] == rig.before
    assert rig.counts() == (0, 0, 0)
    harm.flip(path, LAYOUT["bus_partition.bus_id"])


def test_what_retention_deletes_meanwhile_does_not_come_back(rig: Rig) -> None:
    rig.hot.log.set_log_start(RECORDS)
    harm.delete(rig.files[0])
    rig.scrubber.run_pass()
    assert not rig.files[0].exists()
    assert rig.counts() == (0, 0, 0)


def test_one_replica_scrubs_at_a_time(rig: Rig) -> None:
    harm.flip_value(rig.files[0])
    lock_fd = rig.hot.directory.open_lock("broker.lock")
    try:
        assert lock_byte(lock_fd, SCRUB_BYTE)
        impatient = rig.another_scrubber(interval_s=0.0)
        impatient.tick()
        impatient.close()
        assert rig.counts() == (0, 0, 0)
        unlock_byte(lock_fd, SCRUB_BYTE)
        impatient = rig.another_scrubber(interval_s=0.0)
        impatient.tick()
        eventually(lambda: rig.counts() == (1, 1, 0), what="the damage is mended")
        impatient.close()
        assert lock_byte(lock_fd, SCRUB_BYTE)
    finally:
        os.close(lock_fd)


def test_the_end_of_the_replica_ends_a_slow_pass(rig: Rig) -> None:
    slow = rig.another_scrubber(interval_s=0.0, bytes_per_s=1.0)
    slow.tick()
    slow.close()
    assert rig.counts() == (0, 0, 0)
